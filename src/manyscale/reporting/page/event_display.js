// Steps through chosen events in the eta-phi plane, stream by stream.
(() => {
  "use strict";
  const data = document.getElementById("display-data");
  if (!data) return;
  const { events, streams } = JSON.parse(data.textContent);
  const display = document.getElementById("display");
  const part = (name) => display.querySelector(`[data-part="${name}"]`);

  const SVG = "http://www.w3.org/2000/svg";
  const SIZE = 320;
  const MARGIN = { left: 46, right: 10, top: 10, bottom: 40 };
  const LARGEST = 15;
  const SMALLEST = 2.2;
  const NAMED = 12;
  const GREY = [205, 210, 217];
  // Pale to dark, so that what stands out is dark; blue over white to red where there are two signs.
  const SEQUENTIAL = [[255, 250, 220], [254, 217, 118], [253, 141, 60], [200, 60, 25], [95, 15, 25]];
  const DIVERGING = [[33, 102, 172], [103, 169, 207], [247, 247, 247], [239, 138, 98], [178, 24, 43]];
  // Points of each kind of mark on a circle of radius one; none: a circle.
  const SHAPES = [
    null,
    [[-1, -1], [1, -1], [1, 1], [-1, 1]],
    [[0, -1.3], [1.2, 0.9], [-1.2, 0.9]],
    [[0, -1.4], [1.1, 0], [0, 1.4], [-1.1, 0]],
    [[0, 1.3], [1.2, -0.9], [-1.2, -0.9]],
    [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]],
  ];
  const MEASURES = ["attention", "importance"];

  const html = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };
  const svg = (tag, attributes, text) => {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const short = (number) =>
    number === null || number === undefined ? "none" : String(Number(number.toPrecision(3)));
  const known = (values) => (values ?? []).filter((value) => value !== null);

  const colour = (ramp, place) => {
    const at = Math.min(Math.max(place, 0), 1) * (ramp.length - 1);
    const low = Math.min(Math.floor(at), ramp.length - 2);
    const mixed = ramp[low].map((from, i) => Math.round(from + (at - low) * (ramp[low + 1][i] - from)));
    return `rgb(${mixed})`;
  };

  // Streams that share a scale of colours: those that are looked at together, or drawn alike.
  const groupOf = (stream, measure) => (measure === "attention" && stream.attention) || stream.frame;
  const scalesOf = (event, measure) => {
    const groups = new Map();
    for (const stream of streams) {
      const group = groupOf(stream, measure);
      const { names = [], values = [] } = groups.get(group) ?? {};
      names.push(stream.name);
      values.push(...known(event.streams[stream.name]?.[measure]));
      groups.set(group, { names, values });
    }
    for (const [group, { names, values }] of groups) {
      const most = values.reduce((high, value) => Math.max(high, Math.abs(value)), 0) || 1;
      const signed = values.some((value) => value < 0);
      const ramp = signed ? DIVERGING : SEQUENTIAL;
      const of = (value) => colour(ramp, signed ? (value / most + 1) / 2 : value / most);
      groups.set(group, { names, low: signed ? -most : 0, high: most, ramp, of, empty: !values.length });
    }
    return groups;
  };

  // Shapes start anew with each stream of other kinds.
  const shapes = new Map();
  for (const { name } of streams) {
    const kinds = [...new Set(events.flatMap((event) => event.streams[name]?.kind ?? []))];
    kinds.forEach((kind, place) => shapes.has(kind) || shapes.set(kind, SHAPES[place % SHAPES.length]));
  }

  const mark = (kind, x, y, radius) => {
    const shape = shapes.get(kind);
    if (!shape) return svg("circle", { cx: x, cy: y, r: radius });
    const points = shape.map(([a, b]) => `${(x + 0.9 * radius * a).toFixed(1)},${(y + 0.9 * radius * b).toFixed(1)}`);
    return svg("polygon", { points: points.join(" ") });
  };

  // How far the plane reaches: the same for all events, so that they can be held side by side.
  const reach = (stream) => {
    const farthest = (column) =>
      events.reduce((most, event) => Math.max(most, ...(event.streams[stream.name]?.[column] ?? []).map(Math.abs)), 0);
    if (stream.frame === "detector") return { eta: Math.max(2.5, 1.05 * farthest("eta")), phi: Math.PI };
    const most = Math.max(0.4, Math.ceil(10 * Math.max(farthest("eta"), farthest("phi"))) / 10);
    return { eta: most, phi: most };
  };
  const reaches = new Map(streams.map((stream) => [stream.name, reach(stream)]));

  const ticks = (most) => {
    const step = most > 4 ? 2 : most > 2 ? 1 : most > 0.8 ? 0.5 : 0.2;
    const count = Math.floor(most / step + 1e-9);
    return Array.from({ length: 2 * count + 1 }, (_, i) => (i - count) * step);
  };

  const axes = (plane, { eta, phi }, frame, x, y) => {
    const bottom = SIZE - MARGIN.bottom;
    const right = SIZE - MARGIN.right;
    plane.append(svg("rect", { x: MARGIN.left, y: MARGIN.top, width: right - MARGIN.left, height: bottom - MARGIN.top, class: "plane" }));
    plane.append(svg("path", { d: `M${x(0)} ${MARGIN.top}V${bottom}M${MARGIN.left} ${y(0)}H${right}`, class: "axis" }));
    for (const at of ticks(eta)) plane.append(svg("text", { x: x(at), y: bottom + 15, "text-anchor": "middle" }, short(at)));
    for (const at of ticks(phi)) plane.append(svg("text", { x: MARGIN.left - 5, y: y(at) + 4, "text-anchor": "end" }, short(at)));
    const d = frame === "detector" ? "" : "Δ";
    plane.append(svg("text", { x: (MARGIN.left + right) / 2, y: SIZE - 6, "text-anchor": "middle" }, `${d}η`));
    const turned = `rotate(-90 11 ${(MARGIN.top + bottom) / 2})`;
    plane.append(svg("text", { x: 11, y: (MARGIN.top + bottom) / 2 + 4, "text-anchor": "middle", transform: turned }, `${d}φ [rad]`));
  };

  const wordsOf = (tokens, place) =>
    `${tokens.kind[place]}: pT ${short(tokens.pt[place])} GeV, η ${short(tokens.eta[place])}, φ ${short(tokens.phi[place])}, ` +
    MEASURES.map((measure) => `${measure} ${short(tokens[measure]?.[place])}`).join(", ");

  const panel = (stream, tokens, measure, scale) => {
    const figure = html("figure", undefined, "panel");
    figure.append(html("figcaption", `${stream.name}, ${stream.frame}`));
    const count = tokens ? tokens.pt.length : 0;
    const label = `${stream.name}: ${count} ${count === 1 ? "token" : "tokens"} in the eta-phi plane, ${stream.frame}`;
    const plane = svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img", "aria-label": label });
    const limits = reaches.get(stream.name);
    const x = (eta) => MARGIN.left + ((eta / limits.eta + 1) / 2) * (SIZE - MARGIN.left - MARGIN.right);
    const y = (phi) => MARGIN.top + ((1 - phi / limits.phi) / 2) * (SIZE - MARGIN.top - MARGIN.bottom);
    axes(plane, limits, stream.frame, x, y);
    figure.append(plane);
    if (!count) {
      plane.append(svg("text", { x: x(0), y: y(0) - 8, "text-anchor": "middle" }, "empty in this event"));
      return figure;
    }
    const most = Math.max(...tokens.pt) || 1;
    // The largest first, so that none hides a smaller one.
    const order = tokens.pt.map((_, place) => place).sort((a, b) => tokens.pt[b] - tokens.pt[a]);
    for (const place of order) {
      const value = tokens[measure]?.[place];
      const radius = Math.max(SMALLEST, LARGEST * Math.sqrt(Math.max(tokens.pt[place], 0) / most));
      const drawn = mark(tokens.kind[place], x(tokens.eta[place]), y(tokens.phi[place]), radius);
      drawn.setAttribute("fill", value !== null && value !== undefined ? scale.of(value) : `rgb(${GREY})`);
      drawn.setAttribute("class", "token");
      drawn.dataset.words = wordsOf(tokens, place);
      plane.append(drawn);
    }
    if (count <= NAMED)
      for (const place of order) {
        const left = tokens.eta[place] > 0;
        const away = (left ? -1 : 1) * (4 + LARGEST * Math.sqrt(Math.max(tokens.pt[place], 0) / most));
        plane.append(svg("text", { x: x(tokens.eta[place]) + away, y: y(tokens.phi[place]) + 4, "text-anchor": left ? "end" : "start", class: "name" }, tokens.kind[place]));
      }
    const whose = measure === "attention" && stream.attention ? ` Attention: ${stream.attention}.` : "";
    const note = known(tokens[measure]).length ? whose : ` No ${measure} is known here: grey.`;
    figure.append(html("p", `Largest pT: ${short(most)} GeV.${note}`, "quiet"));
    return figure;
  };

  const legend = (measure, scales) => {
    const made = [];
    for (const scale of scales.values()) {
      if (scale.empty) continue;
      const bar = html("div", undefined, "colours");
      const stops = Array.from({ length: 21 }, (_, i) => colour(scale.ramp, i / 20));
      const strip = html("span", undefined, "strip");
      strip.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
      const words = `${measure}, ${scale.names.join(" and ")}`;
      bar.append(html("span", words), html("span", short(scale.low)), strip, html("span", short(scale.high)));
      made.push(bar);
    }
    const names = html("div", undefined, "shapes");
    for (const kind of shapes.keys()) {
      const item = html("span");
      const icon = svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" });
      const drawn = mark(kind, 8, 8, 5.5);
      drawn.setAttribute("class", "token");
      drawn.setAttribute("fill", `rgb(${GREY})`);
      icon.append(drawn);
      item.append(icon, ` ${kind}`);
      names.append(item);
    }
    made.push(names);
    return made;
  };

  const listed = (event) => {
    const table = html("table");
    const line = (tag, cells) => {
      const row = html("tr");
      cells.forEach((cell, place) => row.append(html(tag, cell, place > 1 ? "n" : "")));
      return row;
    };
    table.createTHead().append(line("th", ["stream", "kind", "pT [GeV]", "η", "φ", ...MEASURES]));
    const body = table.createTBody();
    for (const stream of streams) {
      const tokens = event.streams[stream.name];
      tokens?.pt.forEach((pt, i) =>
        body.append(line("td", [stream.name, tokens.kind[i], short(pt), short(tokens.eta[i]), short(tokens.phi[i]), ...MEASURES.map((measure) => short(tokens[measure]?.[i]))])));
    }
    return table;
  };

  const state = { group: "", place: 0, measure: "attention" };
  const chosen = () => events.filter((event) => !state.group || event.why === state.group);

  const fillList = (event) => {
    if (part("list").parentElement.open) part("list").replaceChildren(listed(event));
  };

  const show = () => {
    const group = chosen();
    const event = group[state.place];
    const scales = scalesOf(event, state.measure);
    part("where").textContent = `event ${state.place + 1} of ${group.length}`;
    part("who").replaceChildren(
      ...[["", event.why], ["process ", event.process], ["truly ", event.label], ["score ", event.score.toFixed(4)], ["event_id ", event.event_id]].map(
        ([name, text]) => {
          const item = html("span", name);
          item.append(html("b", text));
          return item;
        },
      ),
    );
    part("planes").replaceChildren(
      ...streams.map((stream) =>
        panel(stream, event.streams[stream.name], state.measure, scales.get(groupOf(stream, state.measure))),
      ),
    );
    part("legend").replaceChildren(...legend(state.measure, scales));
    part("tip").hidden = true;
    fillList(event);
  };

  const step = (by) => {
    const count = chosen().length;
    state.place = (state.place + by + count) % count;
    show();
  };

  const select = part("group");
  for (const group of new Set(events.map((event) => event.why))) {
    const option = html("option", `${group} (${events.filter((event) => event.why === group).length})`);
    option.value = group;
    select.append(option);
  }
  select.addEventListener("change", () => {
    Object.assign(state, { group: select.value, place: 0 });
    show();
  });
  part("previous").addEventListener("click", () => step(-1));
  part("next").addEventListener("click", () => step(1));
  for (const radio of display.querySelectorAll('input[name="measure"]'))
    radio.addEventListener("change", () => {
      state.measure = radio.value;
      show();
    });
  part("list").parentElement.addEventListener("toggle", () => fillList(chosen()[state.place]));

  const tip = part("tip");
  const point = (event) => {
    const { words } = event.target.dataset ?? {};
    tip.hidden = !words;
    if (!words) return;
    tip.textContent = words;
    const frame = display.getBoundingClientRect();
    const at = event.target.getBoundingClientRect();
    const most = Math.max(0, frame.width - tip.offsetWidth);
    tip.style.left = `${Math.min(Math.max(0, at.left - frame.left), most)}px`;
    tip.style.top = `${at.bottom - frame.top + 6}px`;
  };
  part("planes").addEventListener("pointerover", point);
  part("planes").addEventListener("click", point);
  part("planes").addEventListener("pointerleave", () => {
    tip.hidden = true;
  });
  display.addEventListener("keydown", (event) => {
    if (event.key === "Escape") tip.hidden = true;
    // Radio buttons and the select have arrow keys of their own.
    if (/INPUT|SELECT/.test(event.target.tagName)) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });

  display.hidden = false;
  show();
})();

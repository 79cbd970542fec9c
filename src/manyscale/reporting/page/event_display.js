// Steps through chosen events in the eta-phi plane, stream by stream.
(() => {
  "use strict";
  const data = document.getElementById("display-data");
  if (!data) return;
  const { events, streams, radius: jetRadius } = JSON.parse(data.textContent);
  const display = document.getElementById("display");
  const part = (name) => display.querySelector(`[data-part="${name}"]`);

  const SVG = "http://www.w3.org/2000/svg";
  const SIZE = 320;
  const MARGIN = { left: 46, right: 10, top: 10, bottom: 40 };
  const LARGEST = 15;
  const SMALLEST = 2.2;
  const NAMED = 12;
  const GREY = "rgb(205,210,217)";
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

  const html = (tag, name, ...content) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    made.append(...content);
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

  const colour = (ramp, share) => {
    const at = Math.min(Math.max(share, 0), 1) * (ramp.length - 1);
    const low = Math.min(Math.floor(at), ramp.length - 2);
    const mixed = ramp[low].map((from, i) => Math.round(from + (at - low) * (ramp[low + 1][i] - from)));
    return `rgb(${mixed})`;
  };

  // Streams that share a scale of colours: those whose attention adds up, or that share a frame.
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
    kinds.forEach((kind, index) => shapes.has(kind) || shapes.set(kind, SHAPES[index % SHAPES.length]));
  }

  const mark = (kind, x, y, radius, fill) => {
    const shape = shapes.get(kind);
    if (!shape) return svg("circle", { cx: x, cy: y, r: radius, class: "token", fill });
    const points = shape.map(([a, b]) => `${(x + 0.9 * radius * a).toFixed(1)},${(y + 0.9 * radius * b).toFixed(1)}`);
    return svg("polygon", { points: points.join(" "), class: "token", fill });
  };

  // How far the plane of a stream reaches in an event.
  const reach = (stream, event) => {
    const { eta = [], phi = [] } = event.streams[stream.name] ?? {};
    const farthest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    if (stream.frame === "detector") return { eta: Math.max(2.5, 1.05 * farthest(eta)), phi: Math.PI };
    const most = Math.max(0.2, 1.02 * (jetRadius ?? 0), Math.ceil(10.5 * Math.max(farthest(eta), farthest(phi))) / 10);
    return { eta: most, phi: most };
  };
  // Where the jets of a stream's plane lie.
  const axesOf = (stream, tokens) =>
    stream.frame === "detector"
      ? (tokens?.kind ?? []).flatMap((kind, i) => (/^(leading|second) jet$/.test(kind) ? [[tokens.eta[i], tokens.phi[i]]] : []))
      : [[0, 0]];

  const ticks = (most) => {
    const step = most > 4 ? 2 : most > 2 ? 1 : most > 0.8 ? 0.5 : 0.2;
    const count = Math.floor(most / step + 1e-9);
    return Array.from({ length: 2 * count + 1 }, (_, i) => (i - count) * step);
  };

  const axes = (plane, { eta, phi }, frame, x, y) => {
    const [left, right, top, bottom] = [MARGIN.left, SIZE - MARGIN.right, MARGIN.top, SIZE - MARGIN.bottom];
    const words = (x, y, text, more) => plane.append(svg("text", { x, y, "text-anchor": "middle", ...more }, text));
    plane.append(svg("rect", { x: left, y: top, width: right - left, height: bottom - top, class: "plane" }));
    plane.append(svg("path", { d: `M${x(0)} ${top}V${bottom}M${left} ${y(0)}H${right}`, class: "axis" }));
    for (const at of ticks(eta)) words(x(at), bottom + 15, short(at));
    for (const at of ticks(phi)) words(left - 5, y(at) + 4, short(at), { "text-anchor": "end" });
    const d = frame === "detector" ? "" : "Δ";
    const middle = (top + bottom) / 2;
    words((left + right) / 2, SIZE - 6, `${d}η`);
    words(11, middle + 4, `${d}φ [rad]`, { transform: `rotate(-90 11 ${middle})` });
  };

  const wordsOf = (tokens, i) =>
    `${tokens.kind[i]}: pT ${short(tokens.pt[i])} GeV, η ${short(tokens.eta[i])}, φ ${short(tokens.phi[i])}, ` +
    MEASURES.map((measure) => `${measure} ${short(tokens[measure]?.[i])}`).join(", ");

  const panel = (stream, event, measure, scale) => {
    const tokens = event.streams[stream.name];
    const count = tokens ? tokens.pt.length : 0;
    const label = `${stream.name}: ${count} ${count === 1 ? "token" : "tokens"} in the eta-phi plane, ${stream.frame}`;
    const plane = svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img", "aria-label": label });
    const figure = html("figure", "panel", html("figcaption", "", `${stream.name}, ${stream.frame}`), plane);
    const limits = reach(stream, event);
    const x = (eta) => MARGIN.left + ((eta / limits.eta + 1) / 2) * (SIZE - MARGIN.left - MARGIN.right);
    const y = (phi) => MARGIN.top + ((1 - phi / limits.phi) / 2) * (SIZE - MARGIN.top - MARGIN.bottom);
    axes(plane, limits, stream.frame, x, y);
    if (jetRadius)
      for (const [eta, phi] of axesOf(stream, tokens)) {
        const [rx, ry] = [x(eta + jetRadius) - x(eta), y(phi) - y(phi + jetRadius)];
        plane.append(svg("ellipse", { cx: x(eta), cy: y(phi), rx, ry, class: "jet" }));
      }
    if (!count) {
      plane.append(svg("text", { x: x(0), y: y(0) - 8, "text-anchor": "middle" }, "empty in this event"));
      return figure;
    }
    const most = Math.max(...tokens.pt) || 1;
    const radius = (i) => LARGEST * Math.sqrt(Math.max(tokens.pt[i], 0) / most);
    // The largest first, so that none hides a smaller one.
    const order = tokens.pt.map((_, i) => i).sort((a, b) => tokens.pt[b] - tokens.pt[a]);
    for (const i of order) {
      const value = tokens[measure]?.[i] ?? null;
      const fill = value === null ? GREY : scale.of(value);
      const drawn = mark(tokens.kind[i], x(tokens.eta[i]), y(tokens.phi[i]), Math.max(SMALLEST, radius(i)), fill);
      drawn.dataset.words = wordsOf(tokens, i);
      plane.append(drawn);
    }
    if (count <= NAMED)
      for (const i of order) {
        const [sign, anchor] = tokens.eta[i] > 0 ? [-1, "end"] : [1, "start"];
        const at = { x: x(tokens.eta[i]) + sign * (4 + radius(i)), y: y(tokens.phi[i]) + 4 };
        plane.append(svg("text", { ...at, "text-anchor": anchor, class: "name" }, tokens.kind[i]));
      }
    const whose = measure === "attention" && stream.attention ? ` Attention: ${stream.attention}.` : "";
    const note = known(tokens[measure]).length ? whose : ` No ${measure} is known here: grey.`;
    figure.append(html("p", "quiet", `Largest pT: ${short(most)} GeV.${note}`));
    return figure;
  };

  const legend = (measure, scales) => {
    const bars = [...scales.values()].filter((scale) => !scale.empty).map((scale) => {
      const strip = html("span", "strip");
      const stops = Array.from({ length: 21 }, (_, i) => colour(scale.ramp, i / 20));
      strip.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
      const words = [`${measure}, ${scale.names.join(" and ")}`, short(scale.low), short(scale.high)];
      const [what, low, high] = words.map((text) => html("span", "", text));
      return html("div", "colours", what, low, strip, high);
    });
    const names = [...shapes.keys()].map((kind) => {
      const icon = svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" });
      icon.append(mark(kind, 8, 8, 5.5, GREY));
      return html("span", "", icon, ` ${kind}`);
    });
    return [...bars, html("div", "shapes", ...names)];
  };

  const listed = (event) => {
    const table = html("table");
    const line = (tag, cells) => html("tr", "", ...cells.map((cell, i) => html(tag, i > 1 ? "n" : "", cell)));
    table.createTHead().append(line("th", ["stream", "kind", "pT [GeV]", "η", "φ", ...MEASURES]));
    const body = table.createTBody();
    for (const { name } of streams) {
      const tokens = event.streams[name];
      tokens?.pt.forEach((_, i) => {
        const numbers = ["pt", "eta", "phi", ...MEASURES].map((column) => short(tokens[column]?.[i]));
        body.append(line("td", [name, tokens.kind[i], ...numbers]));
      });
    }
    return table;
  };

  const state = { group: "", index: 0, measure: "attention" };
  const chosen = () => events.filter((event) => !state.group || event.why === state.group);

  const fillList = (event) => {
    if (part("list").parentElement.open) part("list").replaceChildren(listed(event));
  };

  const show = () => {
    const group = chosen();
    const event = group[state.index];
    const scales = scalesOf(event, state.measure);
    part("where").textContent = `event ${state.index + 1} of ${group.length}`;
    const facts = { "": event.why, "process ": event.process, "truly ": event.label };
    Object.assign(facts, { "score ": event.score.toFixed(4), "event_id ": event.event_id });
    for (const [name, value] of Object.entries(event.observables ?? {}))
      if (value !== null && value >= 0) facts[`${name} `] = short(value) + (/^(m_|met$)/.test(name) ? " GeV" : "");
    part("who").replaceChildren(
      ...Object.entries(facts).map(([name, text]) => html("span", "", name, html("b", "", text))),
    );
    part("planes").replaceChildren(
      ...streams.map((stream) =>
        panel(stream, event, state.measure, scales.get(groupOf(stream, state.measure))),
      ),
    );
    part("legend").replaceChildren(...legend(state.measure, scales));
    part("tip").hidden = true;
    fillList(event);
  };

  const step = (by) => {
    const count = chosen().length;
    state.index = (state.index + by + count) % count;
    show();
  };

  const select = part("group");
  for (const group of new Set(events.map((event) => event.why))) {
    const option = html("option", "", `${group} (${events.filter((event) => event.why === group).length})`);
    option.value = group;
    select.append(option);
  }
  select.addEventListener("change", () => {
    Object.assign(state, { group: select.value, index: 0 });
    show();
  });
  part("previous").addEventListener("click", () => step(-1));
  part("next").addEventListener("click", () => step(1));
  for (const radio of display.querySelectorAll('input[name="measure"]'))
    radio.addEventListener("change", () => {
      state.measure = radio.value;
      show();
    });
  part("list").parentElement.addEventListener("toggle", () => fillList(chosen()[state.index]));

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
  // Keys work without a click, while the display is in the middle of the screen.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") tip.hidden = true;
    // Radio buttons and the select have arrow keys of their own.
    if (/INPUT|SELECT|TEXTAREA/.test(event.target.tagName) || event.altKey || event.ctrlKey || event.metaKey) return;
    const { top, bottom } = display.getBoundingClientRect();
    if (top > innerHeight / 2 || bottom < innerHeight / 2) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });

  display.hidden = false;
  show();
})();

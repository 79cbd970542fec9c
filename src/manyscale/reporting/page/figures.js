// The numbers of each figure as a table, and the buttons that save drawing and numbers.
(() => {
  "use strict";
  const SHOWN = 200;

  // Rows of a CSV text: RFC 4180, as Python's csv module writes it.
  const parse = (text) => {
    const rows = [];
    let row = [];
    const field = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/y;
    while (field.lastIndex < text.length) {
      const found = field.exec(text);
      if (!found) break;
      const [, quoted, plain, end] = found;
      row.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
      if (end !== ",") {
        rows.push(row);
        row = [];
      }
    }
    return rows;
  };

  const element = (tag, text, numeric = false) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (numeric) made.className = "n";
    return made;
  };

  const table = (rows) => {
    const [head, ...body] = rows;
    const numeric = head.map((_, i) => body.every((row) => !Number.isNaN(Number(row[i]))));
    const made = element("table");
    const line = (tag, row) => {
      const cells = element("tr");
      row.forEach((cell, i) => cells.append(element(tag, cell, numeric[i])));
      return cells;
    };
    made.createTHead().append(line("th", head));
    const part = made.createTBody();
    body.slice(0, SHOWN).forEach((row) => part.append(line("td", row)));
    return made;
  };

  // Text until it is unfolded: forty tables would make the page slow to draw.
  const unfold = (details) => {
    const text = details.querySelector("pre");
    const rows = parse(text.textContent);
    const scroll = text.parentElement;
    text.hidden = true;
    scroll.append(table(rows));
    if (rows.length > SHOWN + 1)
      scroll.after(element("p", `The first ${SHOWN} of ${rows.length - 1} rows; the CSV has all.`));
  };

  const save = (name, type, content) => {
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  // The drawing as it was embedded.
  const drawing = (image) => decodeURIComponent(image.src.slice(image.src.indexOf(",") + 1));

  for (const figure of document.querySelectorAll("figure[data-name]")) {
    const { name } = figure.dataset;
    const details = figure.querySelector("details.numbers");
    details?.addEventListener("toggle", () => unfold(details), { once: true });
    for (const button of figure.querySelectorAll("button")) {
      button.hidden = false;
      button.addEventListener("click", () => {
        if (button.dataset.save === "svg")
          save(`${name}.svg`, "image/svg+xml", drawing(figure.querySelector("img")));
        else save(`${name}.csv`, "text/csv", details.querySelector("pre").textContent);
      });
    }
  }
})();

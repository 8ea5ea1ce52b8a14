"use strict";
// Sort and filter tables, show what a mark is, copy a command, open the lead on paper. Without it everything is there, too.
(() => {
  const make = (tag, attributes, ...children) => {
    const node = Object.assign(document.createElement(tag), attributes);
    node.append(...children);
    return node;
  };

  // A cell's place in the order: a number where it begins with one, else its words; empty cells come last.
  const key = (cell) => {
    const text = cell.textContent.trim();
    if (text === "never") return Infinity;
    const found = text.replace(/,/g, "").match(/^(?:[<>] )?(-?\d*\.?\d+(?:e[-+]?\d+)?)(?![\w.-])/i);
    return found ? parseFloat(found[1]) : text;
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

  const sort = (table, column, up) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [key(row.cells[column]), row]);
    const full = rows.filter(([value]) => value !== "").sort(([a], [b]) => (up ? compare(a, b) : compare(b, a)));
    body.append(...[...full, ...rows.filter(([value]) => value === "")].map(([, row]) => row));
  };

  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = make("button", { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        sort(table, column, up);
      });
    });

    const rows = [...table.tBodies[0].rows];
    if (rows.length <= 8) continue;
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const input = make("input", { type: "search" });
    const count = make("output", {}, `${rows.length} rows`);
    const filter = () => {
      const words = input.value.toLowerCase().split(/\s+/);
      let shown = 0;
      for (const row of rows) {
        row.hidden = !words.every((word) => texts.get(row).includes(word));
        shown += !row.hidden;
      }
      count.textContent = `${shown} of ${rows.length} rows`;
    };
    input.addEventListener("input", filter);
    table.parentNode.before(make("div", { className: "filter" }, make("label", {}, "Show rows with ", input), count));
    addEventListener("hashchange", () => {
      if (rows.some((row) => row.hidden && `#${row.id}` === location.hash)) {
        input.value = "";
        filter();
        document.getElementById(location.hash.slice(1)).scrollIntoView();
      }
    });
  }

  const mark = (each) => each.classList.toggle("wide", each.scrollWidth > each.clientWidth + 1);
  const observer = new ResizeObserver((all) => requestAnimationFrame(() => all.forEach(({ target }) => mark(target))));
  for (const scroll of document.querySelectorAll(".scroll")) observer.observe(scroll);

  // On paper the evidence is open, and afterwards as it was.
  const closed = () => document.querySelectorAll(".lead dl details:not([open])");
  let opened = [];
  addEventListener("beforeprint", () => (opened = [...closed()]).forEach((each) => (each.open = true)));
  addEventListener("afterprint", () => opened.forEach((each) => (each.open = false)));

  const copy = async (code) => {
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
  };
  for (const code of document.querySelectorAll("code.command")) {
    const button = make("button", { type: "button", className: "copy", textContent: "Copy" });
    button.addEventListener("click", async () => {
      await copy(code);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
    code.before(button);
  }

  // The browser's own tips come late and not on touch: the same texts at once.
  const tip = make("div", { className: "tip", hidden: true });
  document.body.append(tip);
  for (const title of document.querySelectorAll("svg title")) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  }
  const show = (event) => {
    const mark = event.target.closest?.("[data-tip]");
    tip.hidden = !mark;
    if (!mark) return;
    const box = mark.getBoundingClientRect();
    tip.textContent = mark.dataset.tip;
    const left = Math.max(4, Math.min(event.clientX ?? box.left, innerWidth - tip.offsetWidth - 8));
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${box.bottom + scrollY + 6}px`;
  };
  for (const kind of ["pointerover", "focusin"]) document.addEventListener(kind, show);
  document.addEventListener("keydown", (event) => (tip.hidden ||= event.key === "Escape"));
})();

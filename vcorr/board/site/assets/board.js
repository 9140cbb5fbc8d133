"use strict";
// Switches the theme, sorts and filters tables, copies commands. Every page is complete without this script, which
// loads nothing from the network.
(function () {
  const root = document.documentElement;
  const THEME = "vcorr-theme";

  // Browsers may refuse storage to pages that are opened from disk
  function loadTheme() {
    try { return localStorage.getItem(THEME); } catch { return null; }
  }

  function storeTheme(theme) {
    try { localStorage.setItem(THEME, theme); } catch { /* the choice then lasts until the page is closed */ }
  }

  function isDark() {
    const chosen = root.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  const stored = loadTheme();
  if (stored === "dark" || stored === "light") root.dataset.theme = stored;

  function setUpTheme() {
    const button = document.querySelector("button.theme");
    const label = () => { button.textContent = isDark() ? "Light" : "Dark"; };
    const update = () => { label(); document.dispatchEvent(new Event("vcorr-theme")); };
    button.hidden = false;
    label();
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      storeTheme(root.dataset.theme);
      update();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
  }

  function cellValue(row, column, kind) {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    return kind === "number" ? (text === "" ? NaN : Number(text)) : text;
  }

  // Rows without a value come last in both directions
  function compare(a, b, direction) {
    if (typeof a === "string") return direction * a.localeCompare(b, undefined, { numeric: true, sensitivity: "base" });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return direction * (a - b);
  }

  function sortBy(table, header, column) {
    const kind = header.dataset.sort;
    const first = kind === "number" && !header.classList.contains("rank-column") ? "descending" : "ascending";
    const second = first === "descending" ? "ascending" : "descending";
    const order = header.getAttribute("aria-sort") === first ? second : first;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
    const body = table.tBodies[0];
    const direction = order === "ascending" ? 1 : -1;
    const rows = Array.from(body.rows, (row) => [cellValue(row, column, kind), row]);
    rows.sort((a, b) => compare(a[0], b[0], direction));
    body.append(...rows.map((pair) => pair[1]));
  }

  function setUpSorting(table) {
    Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
      if (!header.dataset.sort) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => sortBy(table, header, column));
    });
  }

  function setUpFilter() {
    const controls = document.querySelector(".controls");
    if (!controls) return;
    const search = controls.querySelector("input[type=search]");
    const baselines = controls.querySelector("[data-toggle=baseline]");
    const count = controls.querySelector(".count");
    const rows = Array.from(document.querySelectorAll("table[data-filterable] tbody tr"));
    const apply = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word)) ||
          (row.classList.contains("baseline") && !baselines.checked);
        if (!row.hidden) shown += 1;
      }
      count.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} rows`;
    };
    search.addEventListener("input", apply);
    baselines.addEventListener("change", apply);
    controls.hidden = false;
    apply();  // on reload, browsers keep the text in the search field
  }

  function setUpCopying(box) {
    if (!navigator.clipboard) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(box.querySelector("code").textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not allowed";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    box.append(button);
  }

  // the page of a plugin runs no scripts, so this page gives its frame the height and the theme
  function setUpFrame(box) {
    const fit = () => {
      const inside = box.contentDocument;
      if (!inside || !inside.body) return;
      inside.documentElement.dataset.theme = document.documentElement.dataset.theme || "";
      if (!inside.documentElement.dataset.theme) delete inside.documentElement.dataset.theme;
      box.style.height = `${Math.max(inside.documentElement.scrollHeight, 80)}px`;
    };
    box.addEventListener("load", fit);
    addEventListener("resize", fit);
    document.addEventListener("vcorr-theme", fit);
    fit();
  }

  document.addEventListener("DOMContentLoaded", () => {
    setUpTheme();
    document.querySelectorAll("table.sortable").forEach(setUpSorting);
    setUpFilter();
    document.querySelectorAll(".command").forEach(setUpCopying);
    document.querySelectorAll("iframe.plugin").forEach(setUpFrame);
  });
})();

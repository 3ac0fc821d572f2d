// Copyright (c) certflow.kubernetes contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
"use strict";
(() => {
  // The page is complete without this script. It adds filters, sorting and open details for print.
  const SEVERITIES = ["error", "warning", "info"];
  const FILTERS = { status: "Status", severity: "Severity", check: "Check", manager: "Manager", cluster: "Cluster" };
  const make = (name, values = {}, ...children) => {
    const element = Object.assign(document.createElement(name), values);
    element.append(...children);
    return element;
  };
  const textOf = (cell) => (cell ? (cell.querySelector("a, b, time") || cell.firstChild || cell).textContent.trim() : "");
  const keysOf = (table) => [...table.tHead.rows[0].cells].map((cell) => cell.dataset.key);

  // Rows. A fault is a row with a second row for its findings, in a body of its own.
  const tables = [...document.querySelectorAll("table:not(.members)")];
  const unitsOf = (table) => (table.classList.contains("findings") ? [...table.tBodies] : [...table.tBodies[0].rows]);
  const cellsOf = (unit) => (unit.rows ? unit.rows[0] : unit).cells;
  const filtered = tables.filter((table) => table.dataset.status);
  const rows = filtered.flatMap((table) => {
    const keys = keysOf(table);
    return unitsOf(table).map((row) => {
      const values = { status: [table.dataset.status] };
      keys.forEach((key, at) => { if (FILTERS[key]) values[key] = [textOf(cellsOf(row)[at])]; });
      const names = [...row.querySelectorAll("[data-name]")];
      if (names.length) values.cluster = names.map((name) => name.textContent);
      const members = [...row.querySelectorAll(".members tbody tr")].map((member) => ({
        row: member, values: { cluster: [textOf(member.cells[0])], manager: [textOf(member.cells[3])] },
      }));
      if (members.length) values.manager = [...new Set(members.flatMap((member) => member.values.manager))];
      return { row, table, values, members, text: row.textContent.toLowerCase() };
    });
  });

  // Filter
  const controls = {};
  const form = make("form", { className: "filter" });
  form.setAttribute("role", "search");
  form.setAttribute("aria-label", "Filter the tables");
  const search = make("input", { type: "search", autocomplete: "off", spellcheck: false });
  form.append(make("label", {}, "Text", search));
  for (const [key, title] of Object.entries(FILTERS)) {
    const numbers = new Map();
    for (const { values } of rows) for (const value of values[key] || []) if (value) numbers.set(value, (numbers.get(value) || 0) + 1);
    if (numbers.size < 2) continue;
    const order = key === "severity" ? (a, b) => SEVERITIES.indexOf(a) - SEVERITIES.indexOf(b) : (a, b) => a.localeCompare(b, "en", { numeric: true });
    const select = make("select", {}, make("option", { value: "" }, "all"));
    for (const value of [...numbers.keys()].sort(order)) select.append(make("option", { value }, `${value} (${numbers.get(value)})`));
    controls[key] = select;
    form.append(make("label", {}, title, select));
  }
  const reset = make("button", { type: "reset" }, "Reset");
  const live = make("output");
  live.setAttribute("aria-live", "polite");
  form.append(reset, live);
  if (rows.length) document.querySelector("header").after(form);

  // Counts become buttons that set the filter.
  const counts = [...document.querySelectorAll("a[data-filter]")].map((link) => {
    const wanted = Object.fromEntries(new URLSearchParams(link.dataset.filter));
    const isOn = () => Object.keys(controls).every((key) => controls[key].value === (wanted[key] || ""));
    const isPossible = Object.entries(wanted).every(([key, value]) => controls[key] && [...controls[key].options].some((one) => one.value === value));
    if (!isPossible) return null;
    const button = make("button", { type: "button" }, ...link.childNodes); // this empties the link
    button.addEventListener("click", () => {
      const wasOn = isOn();
      for (const key in controls) controls[key].value = wasOn ? "" : wanted[key] || "";
      apply();
      write();
    });
    link.replaceWith(button);
    return { button, isOn };
  }).filter(Boolean);

  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const active = Object.keys(controls).filter((key) => controls[key].value);
    const isFiltered = active.length + words.length > 0;
    const shown = new Map(filtered.map((table) => [table, 0]));
    let total = 0;
    const passes = (values) => active.every((key) => !values[key] || values[key].includes(controls[key].value));
    for (const { row, table, values, members, text } of rows) {
      const matches = active.every((key) => values[key]) && passes(values) && words.every((word) => text.includes(word));
      for (const member of members) member.row.hidden = !passes(member.values);
      row.hidden = !matches;
      if (matches) { total += 1; shown.set(table, shown.get(table) + 1); }
    }
    for (const [table, number] of shown) {
      table.hidden = number === 0;
      const section = table.closest("section");
      section.querySelector("h2 small").textContent = isFiltered ? `(${number} of ${unitsOf(table).length})` : `(${number})`;
      const folded = section.querySelector("details.folded");
      if (folded && active.includes("status")) folded.open = number > 0;
    }
    live.textContent = isFiltered ? `${total} of ${rows.length} rows match` : `${rows.length} rows`;
    for (const { button, isOn } of counts) button.setAttribute("aria-pressed", String(isOn() && !words.length));
  };

  // Sorting
  const first = new Map(tables.map((table) => [table, unitsOf(table)]));
  const put = (table, units) => (units[0]?.rows ? table : table.tBodies[0]).append(...units);
  const value = (row, at, isNumber) => {
    const cell = cellsOf(row)[at];
    // A cell over several columns has no value for one of them.
    if (!cell || cell.colSpan > 1) return null;
    const text = cell.querySelector("time")?.dateTime || textOf(cell);
    if (isNumber) return text === "" ? null : Number(text);
    const rank = SEVERITIES.indexOf(text);
    return text === "" ? null : rank < 0 ? text : String(rank);
  };
  const sort = (table, key, direction) => {
    const at = keysOf(table).indexOf(key);
    const head = table.tHead.rows[0].cells[at];
    const isNumber = head.dataset.type === "number";
    const sign = direction === "descending" ? -1 : 1;
    const keyed = first.get(table).map((row) => [value(row, at, isNumber), row]);
    keyed.sort(([a], [b]) => {
      // A row without a value is last in both directions.
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (isNumber ? a - b : a.localeCompare(b, "en", { numeric: true }));
    });
    put(table, keyed.map(([, row]) => row));
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction);
  };
  const unsort = (table) => {
    put(table, first.get(table));
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  };
  const idOf = (table) => table.closest("section").id;
  for (const table of tables) {
    for (const head of table.tHead.rows[0].cells) {
      const button = make("button", { type: "button" }, ...head.childNodes);
      button.addEventListener("click", () => {
        const isUp = head.getAttribute("aria-sort") === "ascending";
        for (const other of tables) if (other !== table) unsort(other);
        sort(table, head.dataset.key, isUp ? "descending" : "ascending");
        write();
      });
      head.append(button);
    }
  }

  // The fragment of the address holds the state. A fragment without "=" is an anchor of the page.
  const write = () => {
    const state = new URLSearchParams();
    for (const key in controls) if (controls[key].value) state.set(key, controls[key].value);
    if (search.value) state.set("text", search.value);
    const sorted = document.querySelector("th[aria-sort]");
    if (sorted) state.set("sort", [idOf(sorted.closest("table")), sorted.dataset.key, sorted.getAttribute("aria-sort")].join("."));
    const fragment = `#${state}`;
    if (location.hash.slice(1) !== fragment.slice(1)) history.replaceState(null, "", fragment);
  };
  const read = () => {
    const fragment = location.hash.slice(1);
    if (fragment && !fragment.includes("=")) {
      const folded = document.getElementById(fragment)?.querySelector("details.folded");
      if (folded) folded.open = true;
      return;
    }
    const state = new URLSearchParams(fragment);
    for (const key in controls) {
      controls[key].value = state.get(key) || "";
      if (controls[key].selectedIndex < 0) controls[key].value = "";
    }
    search.value = state.get("text") || "";
    const [section, key, direction] = (state.get("sort") || "").split(".");
    for (const table of tables) {
      const isKnown = idOf(table) === section && keysOf(table).includes(key) && ["ascending", "descending"].includes(direction);
      if (isKnown) sort(table, key, direction);
      else unsort(table);
    }
  };

  let timer = 0;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => { apply(); write(); }, 120);
  });
  form.addEventListener("change", (event) => { if (event.target !== search) { apply(); write(); } });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { tables.forEach(unsort); apply(); write(); }));
  addEventListener("hashchange", () => { read(); apply(); });

  // A click anywhere on a fault opens its findings.
  document.addEventListener("click", (event) => {
    const fault = event.target.closest(".findings > tbody > tr:first-child");
    if (!fault || event.target.closest("a, details") || String(getSelection())) return;
    const details = fault.nextElementSibling.querySelector("details");
    details.open = !details.open;
  });

  // Print opens the details.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")].filter((details) => details.checkVisibility?.() !== false);
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => { for (const details of opened) details.open = false; });

  read();
  apply();
})();

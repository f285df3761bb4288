/* What every page does: tables that can be sorted and saved. Without this script they are still read. */
"use strict";

const Tables = (() => {
  /* Numbers by size, with what follows them ("0.819 (0.734 to 0.903)") left aside; the rest as text; empty cells last. */
  function compare(a, b) {
    const [x, y] = [a, b].map((cell) => cell.trim());
    if (x === "" || y === "") return (x === "") - (y === "");
    const [m, n] = [x, y].map((cell) => /^[+-]?[\d,]*\.?\d+(e[+-]?\d+)?/i.exec(cell)?.[0].replaceAll(",", ""));
    if (m !== undefined && n !== undefined && Number(m) !== Number(n)) return Number(m) - Number(n);
    return x.localeCompare(y, "en", { numeric: true });
  }

  /* Rows in a new order; descending keeps empty cells last too. */
  function order(cells, descending) {
    const places = cells.map((_, i) => i);
    const sign = descending ? -1 : 1;
    return places.sort((i, j) => {
      const [x, y] = [cells[i].trim(), cells[j].trim()];
      return x === "" || y === "" ? compare(x, y) : sign * compare(x, y) || i - j;
    });
  }

  function csv(rows) {
    const quoted = (cell) => (/[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
    return rows.map((row) => row.map(quoted).join(",")).join("\n") + "\n";
  }

  return { compare, order, csv };
})();

if (typeof module !== "undefined") module.exports = Tables;

if (typeof document !== "undefined") {
  const textOf = (cell) => cell.innerText.trim().replace(/\s+/g, " ");

  function sortable(table) {
    const head = table.tHead?.rows[table.tHead.rows.length - 1];
    const rows = [...(table.tBodies[0]?.rows ?? [])];
    if (!head || rows.length < 2 || rows.some((row) => row.cells.length !== head.cells.length)) return;
    if (rows.some((row) => [...row.cells].some((cell) => cell.rowSpan > 1))) return;
    [...head.cells].forEach((cell, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...cell.childNodes);
      if (!button.innerText.trim()) button.setAttribute("aria-label", "sort by row name");
      cell.append(button);
      button.addEventListener("click", () => {
        const descending = cell.getAttribute("aria-sort") === "ascending";
        [...head.cells].forEach((other) => other.removeAttribute("aria-sort"));
        cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const places = Tables.order(rows.map((row) => textOf(row.cells[column])), descending);
        table.tBodies[0].append(...places.map((place) => rows[place]));
      });
    });
  }

  function savable(table, number) {
    if (table.dataset.csv !== undefined) return; // a file of the run holds it whole
    const button = document.createElement("button");
    button.type = "button";
    button.className = "save";
    button.textContent = "Save as CSV";
    button.addEventListener("click", () => {
      const rows = [...table.rows].map((row) => [...row.cells].map(textOf));
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([Tables.csv(rows)], { type: "text/csv" }));
      link.download = `${document.body.dataset.page}-table-${number + 1}.csv`;
      link.click();
      URL.revokeObjectURL(link.href);
    });
    table.closest(".scroll").after(button);
  }

  document.querySelectorAll(".scroll > table").forEach((table, number) => {
    sortable(table);
    savable(table, number);
  });
}

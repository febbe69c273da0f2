// Tables are sorted by a click on a heading; missing values stay last in either direction.

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = make("button", { type: "button" }, head.textContent);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const now = head.getAttribute("aria-sort");
      // The first click shows what a reader looks for: the largest number, or the first name.
      const next = now ? (now === "ascending" ? "descending" : "ascending") : numeric ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => [cellKey(row.cells[column]), row]);
      rows.sort((left, right) => compare(left[0], right[0], sign));
      body.append(...rows.map(([, row]) => row));
    });
  });
}

function cellKey(cell) {
  const value = cell.dataset.value;
  if (value === undefined) return cell.textContent;
  return value === "" ? NaN : Number(value);
}

function compare(a, b, sign) {
  const [noA, noB] = [a, b].map((value) => value === null || Number.isNaN(value));
  if (noA || noB) return noA - noB;
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
}

for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (body.rows.length < 4) continue;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      const text = (row) => row.cells[column].textContent.trim();
      const value = (row) => Number(text(row).replaceAll(",", ""));
      const absent = (row) => text(row) === "-";
      const order = (a, b) => absent(a) - absent(b) || down * (
        Number.isNaN(value(a)) || Number.isNaN(value(b)) ? text(a).localeCompare(text(b)) : value(a) - value(b));
      body.append(...[...body.rows].sort(order));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down === 1 ? "ascending" : "descending");
    });
  });
}

for (const region of document.querySelectorAll(".scroll")) {
  const mark = () => region.classList.toggle("sideways", region.scrollWidth > region.clientWidth + 1);
  new ResizeObserver(mark).observe(region);
}

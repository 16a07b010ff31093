"use strict";

const FIRST = 20;  // rows that are shown at first
const STEP = 100;  // rows that are added at once
const MISSING = "–";
const collator = new Intl.Collator("en", { numeric: true });

/** Return what a cell sorts by: a number where its column has numbers. */
function sortKey(text, isNumber) {
  return isNumber ? parseFloat(text.replace("−", "-").replace(/[^\d.eE+-]/g, "")) : text;
}

/** Return the rows in the order of a column; missing values come last. */
function sorted(rows, column, isNumber, descending) {
  const keyed = rows.map(row => [row[column] === MISSING ? null : sortKey(row[column], isNumber), row]);
  const compare = isNumber ? (a, b) => a - b : collator.compare;
  keyed.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : descending ? compare(b, a) : compare(a, b)));
  return keyed.map(pair => pair[1]);
}

/** Add sorting, filters and a search to a table. */
function browse(figure) {
  const table = figure.querySelector("table"), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const names = heads.map(head => head.textContent), form = figure.querySelector(".filters");
  const all = [...body.rows].map(row => [...row.cells].map(cell => cell.textContent));
  const rest = figure.querySelector("script");
  if (rest) all.push(...JSON.parse(rest.textContent));
  const searched = new Map(all.map(row => [row, row.join("\t").toLowerCase()]));
  const search = form.querySelector("input"), choices = [...form.querySelectorAll("select")];
  const count = form.querySelector("output"), more = figure.querySelector(".more");
  let ordered = all, limit = FIRST;

  function show() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = choices.filter(choice => choice.value).map(choice => [+choice.dataset.column, choice.value]);
    const found = ordered.filter(row => words.every(word => searched.get(row).includes(word)) &&
      chosen.every(([column, value]) => row[column] === value));
    body.replaceChildren(...found.slice(0, limit).map(row => {
      const line = document.createElement("tr");
      line.append(...row.map((text, place) => {
        const cell = document.createElement(place ? "td" : "th");
        if (!place) cell.scope = "row";
        cell.className = heads[place].className;
        cell.classList.toggle("none", text === MISSING);
        cell.dataset.label = names[place];
        cell.textContent = text;
        return cell;
      }));
      return line;
    }));
    const shown = Math.min(limit, found.length);
    count.value = `${shown < found.length ? `${shown} of ` : ""}${found.length}${found.length < all.length ? ` found among ${all.length}` : ""} rows`;
    more.hidden = shown === found.length;
    more.textContent = `Show ${Math.min(STEP, found.length - shown)} more rows`;
    stick(table);
  }

  function order(column) {
    const descending = heads[column].ariaSort === "ascending";
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
    ordered = sorted(all, column, heads[column].classList.contains("number"), descending);
    limit = FIRST;
    show();
  }

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = names[column];
    button.addEventListener("click", () => order(column));
    head.replaceChildren(button);
  });
  for (const choice of choices) {
    const values = [...new Set(all.map(row => row[choice.dataset.column]))].sort(collator.compare);
    choice.append(...values.map(value => new Option(value, value)));
  }
  form.addEventListener("input", () => { limit = FIRST; show(); });
  form.addEventListener("submit", event => event.preventDefault());
  more.addEventListener("click", () => { limit += STEP; show(); });
  form.hidden = false;
  show();
}

/** Give each key column after the first the place where it stays when the table scrolls. */
function stick(table) {
  const heads = [...table.tHead.rows[0].cells].filter(head => head.classList.contains("key"));
  let reach = 0;
  const places = heads.map(head => (reach += head.offsetWidth) - head.offsetWidth);
  for (const row of table.rows) {
    places.forEach((place, column) => { if (column) row.cells[column].style.left = `${place}px`; });
  }
}

document.querySelectorAll(".browsed").forEach(browse);
document.querySelectorAll("table").forEach(stick);

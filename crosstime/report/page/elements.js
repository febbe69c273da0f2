// Elements are made here and nowhere else: text goes in as text, so that no string of the data is read as HTML.

function make(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function draw(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function number(value, decimals = 3, missing = "–") {
  if (value === null || value === undefined) return missing;
  const text = Math.abs(value).toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  return value < 0 && Number(text.replaceAll(",", "")) !== 0 ? `−${text}` : text;
}

function withInterval([value, low, high], decimals, missing) {
  const text = number(value, decimals, missing);
  if (value === null || low === null || high === null) return text;
  return `${text} [${number(low, decimals)}, ${number(high, decimals)}]`;
}

// Decimals that show the largest value with three digits, so that a column lines up.
function decimalsFor(values) {
  const largest = Math.max(0, ...values.filter((value) => value !== null).map(Math.abs));
  return largest === 0 ? 3 : Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(largest))));
}

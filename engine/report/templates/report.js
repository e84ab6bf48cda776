// Sorts, filters and searches the gallery. All text is read from the document as text; none of it
// is ever turned into markup.
(() => {
  "use strict";
  const gallery = document.getElementById("cards");
  if (!gallery) return;

  const element = (id) => document.getElementById(id);
  const cards = Array.from(gallery.children, (card) => ({
    node: card,
    group: card.dataset.group,
    score: Number(card.dataset.score),
    rank: Number(card.dataset.rank),
    name: card.querySelector(".path").textContent.toLowerCase(),
  }));
  const orders = {
    rank: (one, other) => one.rank - other.rank,
    ascending: (one, other) => one.score - other.score,
    descending: (one, other) => other.score - one.score,
  };
  const buttons = Array.from(document.querySelectorAll("#controls button"));
  let group = "";

  const filter = () => {
    const wanted = element("search").value.trim().toLowerCase();
    let shown = 0;
    for (const card of cards) {
      const fits = (!group || card.group === group) && card.name.includes(wanted);
      card.node.hidden = !fits;
      shown += Number(fits);
    }
    element("shown").textContent = `${shown} of ${cards.length} shown`;
    element("nothing").hidden = shown > 0;
  };
  const sort = () => {
    cards.sort(orders[element("order").value]);
    gallery.append(...cards.map((card) => card.node));
  };
  const choose = (button) => {
    group = button.dataset.group;
    for (const each of buttons) each.setAttribute("aria-pressed", String(each === button));
    filter();
  };

  for (const button of buttons) button.addEventListener("click", () => choose(button));
  element("order").addEventListener("change", sort);
  element("search").addEventListener("input", filter);
  element("large").addEventListener("change", (event) => {
    gallery.classList.toggle("large", event.target.checked);
  });
  element("outlines")?.addEventListener("change", (event) => {
    gallery.classList.toggle("bare", !event.target.checked);
  });
  element("controls").hidden = false;
  // A reloaded page keeps what was chosen in its fields.
  element("large").dispatchEvent(new Event("change"));
  element("outlines")?.dispatchEvent(new Event("change"));
  sort();
  filter();
})();

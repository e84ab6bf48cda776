// Filters, searches, sorts and steps through the gallery. All text is read from the document as
// text; none of it is ever turned into markup.
(() => {
  "use strict";
  const gallery = document.getElementById("cards");
  if (!gallery) return;

  const element = (id) => document.getElementById(id);
  const controls = element("controls");
  const root = document.documentElement;
  const cards = [...gallery.children];
  const orders = {
    rank: (one, other) => one.dataset.rank - other.dataset.rank,
    ascending: (one, other) => one.dataset.score - other.dataset.score,
    descending: (one, other) => other.dataset.score - one.dataset.score,
  };
  let current = null;

  const shown = () => cards.filter((card) => !card.hidden);
  const go = (card) => {
    current?.classList.remove("current");
    card?.classList.add("current");
    current = card;
    const all = shown();
    element("shown").textContent = `${all.indexOf(card) + 1} of ${all.length}`;
  };
  const step = (by) => {
    const all = shown();
    const next = all[all.indexOf(current) + by];
    if (!next) return;
    go(next);
    next.scrollIntoView({ block: "nearest" });
  };
  const choose = () => {
    const group = controls.querySelector("[name=group]:checked")?.value;
    const wanted = element("search").value.trim().toLowerCase();
    for (const card of cards) {
      const name = card.querySelector(".path").textContent.toLowerCase();
      card.hidden = (group && card.dataset.group !== group) || !name.includes(wanted);
    }
    cards.sort(orders[element("order").value]);
    gallery.append(...cards);
    element("nothing").hidden = shown().length > 0;
    go(shown()[0]);
  };
  const show = () => {
    root.style.setProperty("--opacity", element("opacity").value);
    root.style.setProperty("--outlines", element("outlines")?.checked === false ? "none" : "inline");
    gallery.classList.toggle("single", element("single").checked);
  };

  controls.addEventListener("input", (event) => {
    if (event.target.matches("#opacity, #outlines, #single")) show();
    else choose();
  });
  element("previous").addEventListener("click", () => step(-1));
  element("next").addEventListener("click", () => step(1));
  document.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const typing = event.target.matches("input:not([type=checkbox]), select, pre");
    if (!by || typing || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    step(by);
  });
  addEventListener("hashchange", () => {
    const card = shown().find((each) => `#${each.id}` === location.hash);
    if (!card) return;
    go(card);
    card.scrollIntoView();
  });
  controls.hidden = false;
  // A reloaded page keeps what was chosen in its fields.
  show();
  choose();
})();

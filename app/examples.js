// A click on an example asks for it by its number.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-number]");
  if (button) trigger("example", { number: Number(button.dataset.number) });
});

// Steps through the slices of volumes: slider, keys, thumbnails, curve. Text is read from the
// document as text.
(() => {
  "use strict";
  const worst = [];
  for (const volume of document.querySelectorAll(".volume")) {
    const find = (selector) => volume.querySelector(selector);
    const slices = [...find(".store").children];
    const range = find("[type=range]");
    if (!range) continue;

    const show = (position) => {
      const { id, dataset } = slices[position];
      range.value = position;
      for (const use of volume.querySelectorAll(".panels use")) {
        use.setAttribute("href", `#${id}-${use.getAttribute("href").split("-").pop()}`);
      }
      const parts = [...find(".thumbnails").children];
      const part = Math.floor((dataset.x / 100) * parts.length);
      parts.forEach((each, index) => each.classList.toggle("current", index === part));
      find(".here").setAttribute("d", `M${dataset.x} 0V100`);
      find(".dot").setAttribute("d", `M${dataset.x} ${dataset.y}h0.01`);
      find("output").textContent = dataset.text;
      range.setAttribute("aria-valuetext", dataset.text);
    };
    const current = () => Number(range.value);
    const step = (by) => show(Math.min(Math.max(current() + by, 0), slices.length - 1));
    const jump = (event) => {
      const box = find(".curve").getBoundingClientRect();
      const x = (100 * (event.clientX - box.left)) / box.width;
      const far = slices.map((slice) => Math.abs(slice.dataset.x - x));
      show(far.indexOf(Math.min(...far)));
      range.focus({ preventScroll: true });
      event.preventDefault();
    };

    range.addEventListener("input", () => show(current()));
    const [previous, next] = volume.querySelectorAll("button");
    previous.addEventListener("click", () => step(-1));
    next.addEventListener("click", () => step(1));
    find(".curve").addEventListener("pointerdown", jump);
    find(".curve").addEventListener("pointermove", (event) => event.buttons && jump(event));
    find(".thumbnails").addEventListener("pointerdown", (event) => {
      const thumbnail = event.target.closest("svg[data-position]");
      if (!thumbnail) return;
      show(Number(thumbnail.dataset.position));
      range.focus({ preventScroll: true });
      event.preventDefault();
    });
    volume.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation();
      step(by);
    });
    for (const control of [previous, range, next]) control.hidden = false;
    const first = Number(range.defaultValue);
    show(first);
    // Paper has the worst slice, whatever is on the screen.
    let before = first;
    addEventListener("beforeprint", () => {
      before = current();
      show(first);
    });
    addEventListener("afterprint", () => show(before));
  }
})();

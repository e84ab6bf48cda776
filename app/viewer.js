// Draws a result and answers its sliders, which never call the model. Runs inside the element of
// gr.HTML, with its element, trigger, props and watch. Names are set as text, never as markup.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const say = (name, text) => { part(name).textContent = text; };
const show = (name, shown) => { part(name).hidden = !shown; };
const short = (number) => String(Number(number.toPrecision(6)));
const verdict = (name, anomalous) => {
  show(name, anomalous !== null);
  say(name, anomalous ? "anomalous" : "normal");
  part(name).classList.toggle("q-bad", Boolean(anomalous));
};
const svg = (name, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

let view = {};
let values = null;
let axis = [0, 1];
// Not read back from its slider, which may round the learnt one.
let threshold = null;

const unpack = ({ numbers, size, range: [low, high] }) => {
  const bytes = Uint8Array.from(atob(numbers), (each) => each.charCodeAt(0));
  const pixels = new DataView(bytes.buffer);
  const scores = Float32Array.from(
    { length: bytes.length / 2 },
    (_, index) => low + ((high - low) * pixels.getUint16(2 * index, true)) / 65535,
  );
  return { scores, width: size[0], height: size[1] };
};

const drawOutline = () => {
  const canvas = part("outline");
  const level = Number(part("pixel").value);
  say("pixel-text", level.toPrecision(3));
  if (!values) { canvas.width = 0; return; }
  const { scores, width, height } = values;
  const scale = Math.ceil(768 / Math.max(width, height));
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  const above = (x, y) =>
    x >= 0 && y >= 0 && x < width && y < height && scores[y * width + x] >= level;
  pen.beginPath();
  for (let y = 0; y <= height; y++) {
    for (let x = 0; x <= width; x++) {
      const here = above(x, y);
      if (here !== above(x - 1, y)) {
        pen.moveTo(x * scale, y * scale);
        pen.lineTo(x * scale, (y + 1) * scale);
      }
      if (here !== above(x, y - 1)) {
        pen.moveTo(x * scale, y * scale);
        pen.lineTo((x + 1) * scale, y * scale);
      }
    }
  }
  pen.lineCap = "square";
  const line = canvas.width / (canvas.clientWidth || canvas.width);
  for (const [colour, thickness] of [["#000", 3], ["#fff", 1.25]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = thickness * line;
    pen.stroke();
  }
};

const drawOpacity = () => {
  const opacity = Number(part("opacity").value);
  part("layer").style.opacity = opacity;
  say("opacity-text", `${Math.round(100 * opacity)} %`);
};

const place = (score) => {
  const share = (score - axis[0]) / (axis[1] - axis[0]);
  return `${100 * Math.min(Math.max(share, 0), 1)}%`;
};

// A score far outside of the validation scores stands at the edge.
const chooseAxis = ({ histogram, slice, score }) => {
  const scores = slice ? slice.scores.filter((each) => each !== null) : [score];
  let [low, high] = histogram ? [histogram.low, histogram.high] : [threshold, threshold];
  [low, high] = [Math.min(low, threshold), Math.max(high, threshold)];
  const width = high - low || Math.abs(high) || 1;
  low = Math.max(Math.min(low, ...scores), low - width);
  high = Math.min(Math.max(high, ...scores), high + width);
  const margin = 0.04 * (high - low);
  axis = [low - margin, high + margin];
};

const drawBars = ({ histogram }) => {
  part("bars").replaceChildren();
  if (!histogram) return;
  const bins = histogram.normal.length;
  const step = (histogram.high - histogram.low) / bins;
  const highest = Math.max(...histogram.normal, ...histogram.anomalous);
  for (const kind of ["normal", "anomalous"]) {
    const counts = histogram[kind];
    const total = counts.reduce((one, other) => one + other, 0);
    show(`${kind}-key`, total);
    say(`${kind}-key`, `${total} ${kind} validation images`);
    counts.forEach((count, index) => {
      const x = (400 * (histogram.low + index * step - axis[0])) / (axis[1] - axis[0]);
      const width = (400 * step) / (axis[1] - axis[0]);
      const height = (96 * count) / highest;
      part("bars").append(svg("rect", { class: `q-${kind}`, x, width, height, y: 100 - height }));
    });
  }
};

// By a threshold of its own, where validation had volumes of both classes, else by its worst slice.
const decideVolume = ({ volume, slice }) => {
  if (volume.worst === null) return null;
  if (volume.threshold !== null) return volume.score >= volume.threshold;
  return threshold === null ? null : slice.scores[volume.worst] >= threshold;
};

const drawThreshold = () => {
  const scored = view.score !== undefined;
  const decided = scored && threshold !== null;
  verdict("verdict", decided ? view.score >= threshold : null);
  if (view.volume) verdict("volume-verdict", decideVolume(view));
  if (threshold === null) return;
  say("threshold-text", short(threshold));
  show("learnt", threshold !== view.threshold);
  part("line").style.left = place(threshold);
  show("mark", scored);
  if (scored) part("mark").style.left = place(view.score);
  for (const bar of part("profile").children) {
    bar.classList.toggle("q-bad", Number(bar.dataset.score) >= threshold);
  }
};

const drawProfile = ({ slice }) => {
  const scores = slice.scores.map((each) => each ?? 0);
  const highest = Math.max(...scores, 1e-30);
  part("profile").setAttribute("viewBox", `0 0 ${scores.length} 1`);
  part("profile").replaceChildren(...scores.map((score, x) => {
    const height = Math.max(score / highest, 0.02);
    const bar = svg("rect", { x: x + 0.08, width: 0.84, y: 1 - height, height });
    bar.dataset.score = slice.scores[x] ?? -Infinity;
    return bar;
  }));
  part("slice").max = scores.length - 1;
};

// The slider reads its ends first: a value beyond them would be cut.
const setRange = (name, low, high, value) => {
  const slider = part(name);
  [slider.min, slider.max] = [low, high];
  slider.value = value;
};

const begin = () => {
  say("name", view.name);
  show("notes", view.notes.length);
  part("notes").replaceChildren(...view.notes.map((text) => {
    const line = document.createElement("li");
    line.textContent = text;
    return line;
  }));
  show("decision", view.threshold !== null);
  show("undecided", view.threshold === null);
  show("slices", view.slice);
  part("profile").replaceChildren();
  if (view.slice) {
    drawProfile(view);
    part("slice").value = view.slice.number;
  }
  threshold = view.threshold;
  if (threshold !== null) {
    chooseAxis(view);
    drawBars(view);
    show("chart", view.histogram);
    setRange("threshold", axis[0], axis[1], threshold);
    say("learnt", `Reset to the learnt ${short(threshold)}`);
  }
  part("map").href = `gradio_api/file=${view.map.path.split("/").map(encodeURIComponent).join("/")}`;
  part("map").download = view.map.name;
  say("map", `Map (${view.map.name.replace(/^.*?(\.nii\.gz|\.npy)$/, "$1")})`);
};

const drawSlice = () => {
  const { slice, volume } = view;
  const scored = view.score !== undefined;
  say("size", slice ? `${slice.scores.length} slices of ${view.size}` : view.size);
  const name = slice ? `Slice ${slice.number}` : "Score";
  say("score-name", scored ? name : `${name}: background, not scored`);
  say("score", scored ? short(view.score) : "–");
  show("save", scored);
  say("this-key", slice ? "this slice" : "this image");
  show("volume", volume);
  if (volume) {
    const own = volume.threshold === null ? "by its worst slice" : `threshold ${short(volume.threshold)}`;
    say("volume-name", `Volume, ${own}`);
    say("volume-score", volume.worst === null ? "not scored" : short(volume.score));
    const worst = volume.worst === null ? "" : `; worst: ${volume.worst}`;
    say("slice-text", `${slice.number} (0 to ${slice.scores.length - 1}${worst})`);
    [...part("profile").children].forEach((bar, number) =>
      bar.classList.toggle("q-current", number === slice.number));
  }
  for (const picture of element.querySelectorAll("[data-picture]")) {
    const source = view[picture.dataset.picture];
    picture.hidden = !source;
    if (source) picture.src = source;
  }
};

const draw = (next) => {
  const { error, done, total } = next;
  show("error", error);
  show("busy", done !== undefined);
  show("result", next.id);
  if (error) say("error", error);
  if (done !== undefined) {
    part("progress").value = done / (total || 1);
    say("doing", total ? `${done} of ${total} slices scored` : "Reading and scoring …");
  }
  if (!next.id) return;
  const isNew = next.id !== view.id;
  view = next;
  values = view.values ? unpack(view.values) : null;
  if (isNew) begin();
  if (isNew && values) {
    const [low, high] = view.values.range;
    const learnt = view.pixel_threshold ?? high;
    setRange("pixel", low, Math.max(1.02 * high, learnt), learnt);
  }
  element.style.setProperty("--q-shape", view.shape);
  drawSlice();
  drawThreshold();
  drawOpacity();
  drawOutline();
};

const save = () => {
  const outline = part("outline");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [outline.width, outline.height];
  const pen = canvas.getContext("2d");
  const layers = [["below", 1], ["layer", Number(part("opacity").value)], ["outline", 1]];
  for (const [name, opacity] of layers) {
    pen.globalAlpha = opacity;
    pen.drawImage(part(name), 0, 0, canvas.width, canvas.height);
  }
  canvas.toBlob((content) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(content);
    const slice = view.slice ? `_slice${view.slice.number}` : "";
    link.download = view.map.name.replace(/_map\..*$/, `${slice}_map.png`);
    link.click();
    URL.revokeObjectURL(link.href);
  });
};

const decide = (chosen) => {
  threshold = chosen;
  part("threshold").value = chosen;
  drawThreshold();
};

const answers = {
  opacity: drawOpacity,
  pixel: drawOutline,
  threshold: () => decide(Number(part("threshold").value)),
  slice: () => trigger("slice", { number: Number(part("slice").value) }),
};
element.addEventListener("input", (event) => answers[event.target.dataset.part]?.());
element.addEventListener("click", (event) => {
  const name = event.target.dataset.part;
  if (name === "save") save();
  if (name === "learnt") decide(view.threshold);
});
watch("value", () => draw(props.value ?? {}));

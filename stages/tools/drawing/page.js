// Draw on a square sheet; what is drawn goes to the server as grey pixels, and the picture that the
// network gets and its probabilities come back, while the pen still moves.

const WORDS = {
  en: {
    title: "Draw a digit",
    invitation: "Draw a digit here, with the mouse or a finger",
    undo: "Undo",
    clear: "Clear",
    keys: "By keyboard: Tab to the sheet, arrows move the pen, Space puts it down and lifts it.",
    meaning: "The bars: the network's probabilities. Under the answer: how likely it is right.",
    seen: (height, width) => `The network gets ${height}\u00a0×\u00a0${width} pixels`,
    paper: "Sheet to draw on",
    bars: "Probabilities",
    sure: (percent) => `${percent} sure`,
    unsure: (percent) => `unsure, ${percent}`,
    each: (name, sureness) => `${name}: ${sureness}`,
    between: "; ",
    said: (name, sureness) => `${name}, ${sureness}`,
    empty: "The sheet is empty.",
    down: "Pen down",
    up: "Pen up",
    unread: "Not read:",
    gone: "The server does not answer. Start it again: make draw",
  },
  zh: {
    title: "写一个数字",
    invitation: "用鼠标或手指在这里写一个数字",
    undo: "撤销",
    clear: "清空",
    keys: "键盘操作：按 Tab 选中画纸，方向键移动画笔，空格键落笔、提笔。",
    meaning: "条形：网络给出的概率。答案下方：读对的可能性。",
    seen: (height, width) => `网络看到的\u00a0${height}\u00a0×\u00a0${width} 像素`,
    paper: "画纸",
    bars: "概率",
    sure: (percent) => `把握 ${percent}`,
    unsure: (percent) => `没有把握，${percent}`,
    each: (name, sureness) => `${name}：${sureness}`,
    between: "；",
    said: (name, sureness) => `${name}，${sureness}`,
    empty: "画纸是空的。",
    down: "落笔",
    up: "提笔",
    unread: "未能识别：",
    gone: "服务器没有应答。请重新运行：make draw",
  },
};
const PEN = 0.08; // of the side: about as wide as the strokes that the network was trained on
const STEP = 1 / 28; // of the side, that the pen goes at an arrow key
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const $ = (id) => document.getElementById(id);
const [paper, seen] = [$("paper"), $("seen")];
const hidden = document.createElement("canvas"); // what is sent: the drawing, in the server's size
const kept = localStorage.getItem("language");
let language = kept in WORDS ? kept : navigator.language.startsWith("zh") ? "zh" : "en";
let network; // side of the square to send, image_size and class_names
let strokes = []; // each a list of points [x, y] from 0 to 1; a stroke that is over never changes
let past = []; // the strokes before each change
let pointer = null; // the one that draws
const pen = { x: 0.5, y: 0.3, down: false, shown: false }; // of the keyboard
let answer = null; // {readings, image, probabilities}, {unread} or {gone}; null for an empty sheet

// --- What is on the page ---

function trace(canvas, colour) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = PEN * canvas.width;
  context.strokeStyle = colour;
  for (const stroke of strokes) {
    const points = stroke.map(([x, y]) => [x * canvas.width, y * canvas.height]);
    context.beginPath();
    context.moveTo(...points[0]);
    // From middle to middle of the straight pieces, bent by the point between them.
    for (let i = 1; i < points.length - 1; i++) {
      const [[x, y], [nextX, nextY]] = [points[i], points[i + 1]];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    const [x, y] = points.at(-1);
    context.lineTo(x + 0.01, y); // a point alone is a dot
    context.stroke();
  }
}

function show() {
  paper.width = paper.height = Math.round(paper.clientWidth * devicePixelRatio);
  const style = getComputedStyle(paper);
  trace(paper, style.getPropertyValue("--ink"));
  $("invitation").hidden = strokes.length > 0 || pen.shown;
  if (pen.shown) {
    const context = paper.getContext("2d");
    context.beginPath();
    context.arc(pen.x * paper.width, pen.y * paper.width, (PEN / 2) * paper.width, 0, 2 * Math.PI);
    context.lineWidth = 3 * devicePixelRatio;
    context.strokeStyle = style.getPropertyValue("--accent");
    context.stroke();
  }
  // Not `disabled`, with which a button would lose the keyboard's focus.
  $("undo").ariaDisabled = String(!past.length);
  $("clear").ariaDisabled = String(!strokes.length);
}

function percent(share) {
  const form = new Intl.NumberFormat(language, { style: "percent", minimumFractionDigits: 1,
    maximumFractionDigits: 1 });
  return share > 0.9995 ? `>${form.format(0.999)}` : form.format(share);
}

function best() {
  return answer.probabilities.indexOf(Math.max(...answer.probabilities));
}

function names() {
  return answer.readings.map(({ name }) => name).join("");
}

// Of one digit how sure the network is; of several that and which is meant.
function sureness() {
  const { sure, unsure, each, between } = WORDS[language];
  const words = answer.readings.map((one) => (one.sure ? sure : unsure)(percent(one.confidence)));
  if (words.length === 1) return words[0];
  return answer.readings.map(({ name }, i) => each(name, words[i])).join(between);
}

function showAnswer() {
  const words = WORDS[language];
  const read = answer?.probabilities;
  const context = seen.getContext("2d");
  const pixels = context.createImageData(seen.width, seen.height);
  pixels.data.fill(255);
  const levels = read ? answer.image.flat() : new Array(seen.width * seen.height).fill(0);
  levels.forEach((level, i) => pixels.data.fill(level, 4 * i, 4 * i + 3));
  context.putImageData(pixels, 0, 0);
  const name = read ? names() : "";
  $("digit").textContent = name || " ";
  $("digit").classList.toggle("long", name.length > 2);
  $("top").classList.toggle("several", answer?.readings?.length > 1);
  $("sureness").textContent = read ? sureness() : answer ? trouble() : " ";
  [...$("bars").children].forEach((row, i) => {
    row.classList.toggle("best", Boolean(read) && i === best());
    row.querySelector(".bar").style.width = `${100 * (read?.[i] ?? 0)}%`;
    row.querySelector(".share").textContent = read ? percent(read[i]) : "";
  });
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  seen.ariaLabel = words.seen(seen.height, seen.width);
}

function trouble() {
  const words = WORDS[language];
  return answer.gone ? words.gone : `${words.unread} ${answer.unread}`;
}

function say(text) {
  $("said").textContent = text;
}

// Once a stroke is over, and not at each of its points.
function sayAnswer() {
  if (pointer !== null || pen.down) return;
  const words = WORDS[language];
  if (answer?.probabilities) say(words.said(names(), sureness()));
  else say(answer ? trouble() : words.empty);
}

function showWords() {
  const words = WORDS[language];
  for (const element of document.querySelectorAll("[data-words]")) {
    const text = words[element.dataset.words];
    element.textContent = typeof text === "string" ? text : text(...network.image_size);
  }
  document.title = words.title;
  paper.ariaLabel = words.paper;
  $("bars").ariaLabel = words.bars;
  const other = language === "en" ? "zh" : "en";
  $("language").textContent = { en: "English", zh: "中文" }[other];
  $("language").lang = other;
  showAnswer();
}

// --- What the server says ---

async function ask(path, options) {
  const response = await fetch(path, { signal: AbortSignal.timeout(10_000), ...options });
  return response.json();
}

function drawing() {
  trace(hidden, "#000");
  const context = hidden.getContext("2d", { willReadFrequently: true });
  const { data } = context.getImageData(0, 0, hidden.width, hidden.height);
  return Uint8Array.from({ length: data.length / 4 }, (_, i) => 255 - data[4 * i + 3]);
}

// One drawing is under way at a time; what was drawn meanwhile goes next, all in one.
let [busy, stale] = [false, false];
async function read() {
  stale = true;
  if (busy) return;
  busy = true;
  document.querySelector("main").ariaBusy = "true";
  while (stale) {
    stale = false;
    let found = null;
    if (strokes.length) {
      const headers = { "Content-Type": "application/octet-stream" };
      try {
        found = await ask("read", { method: "POST", headers, body: drawing() });
        if (found.error) found = { unread: found.error };
      } catch {
        found = { gone: true };
      }
    }
    answer = strokes.length ? found : null;
    showAnswer();
  }
  busy = false;
  document.querySelector("main").ariaBusy = "false";
  sayAnswer();
}

// --- Drawing ---

function change(next) {
  past.push(strokes);
  strokes = next;
  show();
  read();
}

function go(...points) {
  strokes = [...strokes.slice(0, -1), [...strokes.at(-1), ...points]];
  show();
  read();
}

function undo() {
  if (!past.length || pointer !== null) return;
  pen.down = false;
  strokes = past.pop();
  show();
  read();
}

function clear() {
  if (!strokes.length || pointer !== null) return;
  pen.down = false;
  change([]);
}

function place(event) {
  const { left, top, width, height } = paper.getBoundingClientRect();
  return [(event.clientX - left) / width, (event.clientY - top) / height];
}

function begin() {
  paper.addEventListener("pointerdown", (event) => {
    if (pointer !== null || event.button !== 0) return;
    pointer = event.pointerId;
    paper.setPointerCapture(pointer);
    pen.down = pen.shown = false;
    change([...strokes, [place(event)]]);
  });
  paper.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    const between = event.getCoalescedEvents?.() ?? [];
    go(...(between.length ? between : [event]).map(place));
  });
  paper.addEventListener("lostpointercapture", (event) => {
    if (event.pointerId !== pointer) return;
    pointer = null;
    if (!busy) sayAnswer();
  });

  paper.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || pointer !== null) return;
    if (event.key === " " && !event.repeat) {
      pen.down = !pen.down;
      say(WORDS[language][pen.down ? "down" : "up"]);
      if (pen.down) change([...strokes, [[pen.x, pen.y]]]);
      else sayAnswer();
    } else if (event.key in ARROWS) {
      const [x, y] = ARROWS[event.key];
      pen.x = Math.min(1, Math.max(0, pen.x + x * STEP));
      pen.y = Math.min(1, Math.max(0, pen.y + y * STEP));
      if (pen.down) go([pen.x, pen.y]);
    } else if (event.key !== " ") {
      return;
    }
    event.preventDefault();
    pen.shown = true;
    show();
  });
  paper.addEventListener("focus", () => {
    pen.shown = paper.matches(":focus-visible");
    show();
  });
  paper.addEventListener("blur", () => {
    pen.down = pen.shown = false;
    show();
  });

  $("undo").addEventListener("click", undo);
  $("clear").addEventListener("click", clear);
  addEventListener("keydown", (event) => {
    if (event.altKey || event.shiftKey) return;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") undo();
    else if (event.key === "Escape") clear();
    else return;
    event.preventDefault();
  });

  $("language").addEventListener("click", () => {
    language = language === "en" ? "zh" : "en";
    localStorage.setItem("language", language);
    showWords();
    sayAnswer();
  });
  new ResizeObserver(show).observe(paper);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
}

// --- The beginning ---

network = await ask("network");
hidden.width = hidden.height = network.side;
[seen.height, seen.width] = network.image_size;
for (const name of network.class_names) {
  const row = $("bars").appendChild(document.createElement("li"));
  for (const part of ["name", "track", "share"]) {
    row.appendChild(document.createElement("span")).className = part;
  }
  row.querySelector(".name").textContent = name;
  row.querySelector(".track").appendChild(document.createElement("span")).className = "bar";
}
showWords();
show();
begin();

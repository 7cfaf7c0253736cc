"use strict";
// Makes every table sort and filter. Rows of long tables are built when they are looked at, always as text.
(() => {
  const PAGE = 50, CUT = 200;
  const collator = new Intl.Collator("en", { numeric: true });

  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // As Python's format(value, ".6g").
  const six = (value) => {
    if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
    if (value === 0) return Object.is(value, -0) ? "-0" : "0";
    const [mantissa, exponent] = value.toExponential(5).split("e");
    const bare = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
    if (exponent >= -4 && exponent < 6) return bare(value.toFixed(5 - exponent));
    return `${bare(mantissa)}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
  };
  const percent = (value) => {
    const text = Number((100 * value).toPrecision(3));
    return `${text < 0 || Object.is(text, -0) ? "" : "+"}${six(text)} %`;
  };
  const shown = { number: six, count: (value) => value.toLocaleString("en-US"), percent };

  const numeric = (value) => (value === "inf" ? Infinity : value === "-inf" ? -Infinity : value);

  const cell = (value, kind) => {
    const made = element("td");
    if (kind !== "text") made.className = "n";
    if (value === null) {
      if (kind === "text") made.append(element("bdi", {}, "–")); else made.textContent = "–";
    } else if (kind === "text") {
      if (value.length > CUT) made.title = value;
      made.append(element("bdi", {}, value.length > CUT ? `${value.slice(0, CUT)}…` : value));
    } else {
      made.dataset.value = value;
      made.textContent = shown[kind](value);
    }
    return made;
  };

  const fromJson = (text) => {
    const { kinds, texts, rows } = JSON.parse(text);
    return rows.map((row) => {
      const values = row.map((value, at) => (value === null ? null : kinds[at] === "text" ? texts[value] : numeric(value)));
      return { values, build: () => element("tr", {}, ...values.map((value, at) => cell(value, kinds[at]))) };
    });
  };

  const fromBody = (body, kinds) => Array.from(body.rows, (row) => {
    const values = Array.from(row.cells, (one, at) => {
      if (kinds[at] === "text") return one.textContent === "–" ? null : one.title || one.textContent;
      return "value" in one.dataset ? Number(one.dataset.value.replace("inf", "Infinity")) : null;
    });
    return { values, build: () => row };
  });

  const setUp = (frame) => {
    const table = frame.querySelector("table"), body = table.tBodies[0], tools = frame.querySelector(".tools");
    const heads = Array.from(table.tHead.rows[0].cells), kinds = heads.map((head) => head.dataset.kind);
    const json = frame.querySelector("script"), rows = json ? fromJson(json.textContent) : fromBody(body, kinds);
    if (rows.length < 2) return;
    const texts = rows.map((row) => row.values.filter((value, at) => kinds[at] === "text" && value).join("\n").toLowerCase());
    const state = { found: rows.map((_, at) => at), page: 0, column: null, up: false };

    const count = element("output");
    count.setAttribute("role", "status");
    const pages = element("div", { className: "pages", hidden: true });
    const where = element("span"), back = element("button", { type: "button" }, "Previous"), on = element("button", { type: "button" }, "Next");
    pages.append(back, where, on);
    frame.append(pages);

    const draw = () => {
      const last = Math.max(Math.ceil(state.found.length / PAGE) - 1, 0), start = state.page * PAGE;
      body.replaceChildren(...state.found.slice(start, start + PAGE).map((at) => rows[at].build()));
      pages.hidden = last === 0;
      where.textContent = `Page ${state.page + 1} of ${last + 1}`;
      back.disabled = state.page === 0;
      on.disabled = state.page === last;
    };
    const turn = (step) => { state.page += step; draw(); table.scrollIntoView({ block: "nearest" }); };
    back.addEventListener("click", () => turn(-1));
    on.addEventListener("click", () => turn(1));

    const search = element("input", { type: "search", autocomplete: "off", spellcheck: false });
    const choices = heads.flatMap((head, at) => {
      if (!("choice" in head.dataset)) return [];
      const values = [...new Set(rows.map((row) => row.values[at]))];
      if (values.length < 2 || values.length > 200) return [];
      const select = element("select", {}, element("option", { value: "" }, "all"));
      values.forEach((value, number) => select.append(element("option", { value: number }, value === null ? "–" : value.slice(0, 80))));
      return [{ at, select, values, label: element("label", {}, head.textContent, select) }];
    });

    const order = (one, two) => {
      const a = rows[one].values[state.column], b = rows[two].values[state.column];
      if (a === null || b === null) return (a === null) - (b === null) || one - two;
      const difference = kinds[state.column] === "text" ? collator.compare(a, b) : (a > b) - (a < b);
      return (state.up ? difference : -difference) || one - two;
    };
    const refresh = () => {
      const wanted = search.value.trim().toLowerCase();
      const fixed = choices.filter(({ select }) => select.value !== "").map(({ at, select, values }) => [at, values[select.value]]);
      state.found = [];
      rows.forEach((row, at) => {
        if (texts[at].includes(wanted) && fixed.every(([column, value]) => row.values[column] === value)) state.found.push(at);
      });
      if (state.column !== null) state.found.sort(order);
      state.page = 0;
      count.textContent = `${state.found.length.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")} rows`;
      draw();
    };
    const sortBy = (column) => {
      state.up = state.column === column ? !state.up : kinds[column] === "text";
      state.column = column;
      heads.forEach((head, at) => {
        if (at === column) head.setAttribute("aria-sort", state.up ? "ascending" : "descending");
        else head.removeAttribute("aria-sort");
      });
      refresh();
    };

    heads.forEach((head, at) => {
      const button = element("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sortBy(at));
    });
    if (rows.length > 12) {
      tools.append(element("label", {}, "Filter", search), ...choices.map(({ label }) => label), count);
      tools.hidden = false;
      search.addEventListener("input", refresh);
      choices.forEach(({ select }) => select.addEventListener("change", refresh));
    }
    refresh();
  };

  document.querySelectorAll("div.table").forEach(setUp);
})();

/** What a server adds to the page: computing what is missing, told by server-sent events. Without one, nothing happens here. */

export class Live extends EventTarget {
  /** @param site the content of site.json */
  constructor(site) {
    super();
    this.site = site;
    this.state = { builder: site.live ? "starting" : "none" };
    this.asked = new Map(); // key → "waiting" or an error
    if (site.live) this.listen();
  }

  listen() {
    const source = new EventSource("api/events");
    for (const name of ["state", "made", "failed", "updated"]) {
      source.addEventListener(name, (event) => this.hear(name, JSON.parse(event.data || "{}")));
    }
    source.addEventListener("open", () => this.lost && this.hear("updated", {}));
    source.addEventListener("error", () => {
      this.lost = true;
      this.hear("state", { builder: "lost", about: "the server does not answer; the page goes on with what it has read" });
    });
    addEventListener("pagehide", () => source.close());
    addEventListener("pageshow", (event) => event.persisted && this.listen());
  }

  hear(name, detail) {
    if (name === "state") this.state = detail;
    if (name === "made") this.settle(detail);
    if (name === "failed" && detail.ask) this.asked.set(keyOf(detail.ask), { error: detail.error });
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  settle(made) {
    for (const [key, about] of this.asked) {
      const ask = about.ask;
      const same = ask && ask.what === made.what && (made.what === "picture"
        ? ask.layer === made.layer && ask.recipe === made.recipe && made.units?.includes(ask.unit)
        : ask.source === made.source && ask.target === made.target);
      if (same) this.asked.delete(key);
    }
  }

  /** Whether pictures, weights or families can be made here: `what` is "pictures", "weights" or "families". */
  can = (what) => Boolean(this.site.live && this.site.can?.[what]);

  /** What became of an ask: undefined, {ask} while it waits, or {error}. */
  about = (ask) => this.asked.get(keyOf(ask));

  /** Asks the server to compute something: {what: "picture", layer, unit, recipe} or {what: "weights", source, target}. */
  async ask(ask) {
    this.asked.set(keyOf(ask), { ask });
    try {
      await this.send("api/ask", "POST", ask);
    } catch (error) {
      this.asked.set(keyOf(ask), { error: error.message });
    }
    this.dispatchEvent(new CustomEvent("asked", { detail: ask }));
  }

  /** Names a family in the atlas; returns all that people named. */
  name = async (family) => (await this.send("api/families", "POST", family)).families;
  drop = async (name) => (await this.send(`api/families?name=${encodeURIComponent(name)}`, "DELETE")).families;

  async send(path, method, body) {
    const answer = await fetch(path, {
      method, headers: body ? { "Content-Type": "application/json" } : {}, body: body && JSON.stringify(body),
    }).catch(() => {
      throw new Error("the server does not answer");
    });
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(told.error ?? `${answer.status} ${answer.statusText}`);
    return told;
  }
}

const keyOf = (ask) => JSON.stringify([ask.what, ask.layer, ask.unit, ask.recipe, ask.source, ask.target]);

// Fetches the data, which lies in scripts: a page that was opened as a file may read nothing else.
"use strict";
globalThis.emsFast ??= {};
{
  let receive = null;

  // What every script of data calls.
  emsFast.part = (base64) => receive(base64);

  function bytesOf(base64) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < bytes.length; ++i) bytes[i] = text.charCodeAt(i);
    return bytes;
  }

  function run(address) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = address;
      script.onload = () => {
        script.remove(); // its text would stay in memory
        resolve();
      };
      script.onerror = () => reject(new Error(`${address} cannot be read`));
      document.head.append(script);
    });
  }

  // The bytes of every file of the manifest, by name; `advance` hears how many have come.
  emsFast.load = async function (files, advance) {
    const found = {};
    let done = 0;
    for (const { name, bytes, parts } of files) {
      const whole = new Uint8Array(bytes);
      let at = 0;
      for (let part = 0; part < parts; ++part) {
        receive = (base64) => {
          const content = bytesOf(base64);
          whole.set(content, at);
          at += content.length;
        };
        await run(`data/${name}.${part}.js`);
        done += bytes / parts;
        advance(done);
      }
      if (at !== bytes) throw new Error(`data/${name} has ${at} bytes, expected ${bytes}`);
      found[name] = whole;
    }
    return found;
  };
}

/* The payment page: amounts as the reader writes them, and no trace of images that cannot be loaded. */

"use strict";

(() => {
  for (const amount of document.querySelectorAll("data.amount")) {
    const { currency } = amount.dataset;
    const format = new Intl.NumberFormat(navigator.languages, { style: "currency", currency });
    amount.textContent = format.format(Number(amount.value) / 10 ** format.resolvedOptions().maximumFractionDigits);
  }

  /* The shop's name takes the place of its logo; a background image leaves nothing. */
  function replace(image) {
    if (!image.alt) {
      image.remove();
      return;
    }
    const name = Object.assign(document.createElement("p"), { className: "shop", dir: "auto" });
    name.textContent = image.alt;
    image.replaceWith(name);
  }

  for (const image of document.querySelectorAll(".backdrop, .logo")) {
    image.addEventListener("error", () => replace(image));
    if (image.complete && image.naturalWidth === 0) {
      replace(image);
    }
  }
})();

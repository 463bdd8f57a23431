"""ClickableHtml: a widget that shows HTML with buttons and reports their clicks; imports the widget stack."""

from __future__ import annotations

from collections.abc import Callable

import anywidget
import traitlets

IN_THE_PAGE = """
export default { render({ model, el }) {
  const buttons = () => [...el.querySelectorAll("[data-press]")];
  const draw = () => {
    const held = el.contains(document.activeElement);
    const press = model.get("next") || (held ? document.activeElement.dataset.press : "");
    el.innerHTML = model.get("markup");
    if (!held) return;  // keep the focus of another element
    const again = buttons().find((one) => one.dataset.press === press) || buttons()[0];
    if (again) again.focus();
  };
  const pressed = (event) => {
    const button = event.target.closest("[data-press]");
    if (!button) return;
    button.focus();  // some browsers leave a clicked button without focus
    model.send({ press: button.dataset.press });
  };
  el.addEventListener("click", pressed);
  model.on("change:markup", draw);
  draw();
  return () => { el.removeEventListener("click", pressed); model.off("change:markup", draw); };
} };
"""


class ClickableHtml(anywidget.AnyWidget):
    """Shows `markup` (which must be escaped) and calls `on_press(key)` with the `data-press` of a clicked button."""

    _esm = IN_THE_PAGE
    markup = traitlets.Unicode("").tag(sync=True)
    next = traitlets.Unicode("").tag(sync=True)
    """The button that gets the focus with the next markup, if the focus was inside; "": the same as before."""

    def __init__(self, on_press: Callable[[str], None]) -> None:
        super().__init__()
        self.on_msg(lambda page, content, buffers: on_press(str(content["press"])))

    def show(self, markup: str, focus: str = "") -> None:
        """Replace the markup; focus: see `next`."""
        with self.hold_sync():
            self.next, self.markup = focus, markup

"""What every live view is made of."""

from seqlab.widgets import showing


def test_the_first_message_of_a_live_figure_holds_the_picture(monkeypatch):
    import comm
    import plotly.graph_objects as go

    sent = []

    class Noting(comm.base_comm.BaseComm):
        def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
            sent.append((msg_type, (data or {}).get("state", {})))

    monkeypatch.setattr(comm, "create_comm", Noting)
    live = showing.live_figure(go.Figure(go.Scatter(y=[1, 2]), layout={"title": {"text": "told"}}))
    kind, state = sent[0]
    assert kind == "comm_open" and len(sent) == 1
    assert state["_widget_data"][0]["type"] == "scatter" and state["_widget_layout"]["title"]["text"] == "told"
    live.update_layout(title_text="changed")
    assert "changed" in str(sent[1:])

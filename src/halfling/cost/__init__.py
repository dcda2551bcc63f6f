"""What a model costs: counted from its shape (`flops`), and measured (`latency`, `memory`).

A cost is first counted, then measured, and both are printed: where they disagree there is something to mend.
Nothing here knows a model, a task or a framework.
"""

"""The stages: one module each with ``run(settings, store)``. A stage is a name for the artifacts it wants."""

STAGES = {
    "train-reference": "fine-tune π_ref by NLL, chosen by validation NLL",
    "score-rewards": "score every logged response",
    "precompute-values": "π_ref's samples, V(x) and per-token log-probs",
    "train": "train a policy by one variant",
    "evaluate": "answer the test prompts with policy and reference, and compare",
    "report": "write one HTML page about a run or several",
    "run": "all of the above, to the end of the line",
    "compare": "hold any evaluated run against any other: paired differences by method",
    "inspect": "show what the model will see: examples, lengths, cuts, duplicates, rewards",
    "plan": "say what would be made or reused, and which option makes it differ",
    "ls": "say what lies under the output folder, and what uses it",
    "clean": "remove what no policy and no evaluation was made from, after saying what",
    "export": "write a policy's weights to a folder of your choice",
}

"""The stages (subcommands): one module each with ``run(settings, store)``, which asks the store for the artifacts it needs."""

STAGES = {
    "train-reference": "fine-tune the reference policy π_ref by NLL; keep the checkpoint with the best validation NLL",
    "score-rewards": "compute the reward of every logged response",
    "precompute-values": "generate π_ref's samples, compute V(x) and the reference log-probs",
    "train": "train a policy with one variant (loss)",
    "evaluate": "generate responses to the test prompts with policy and reference, and compare them",
    "report": "write an HTML page about one or more runs",
    "run": "all of the above",
    "compare": "compare evaluated runs: one row per method, paired differences, training costs",
    "inspect": "show what the model will see: examples, lengths, truncation, duplicates, rewards",
    "plan": "show what would be built, and which options differ from existing artifacts",
    "ls": "list the artifacts under the output folder: state, size, age, and what uses them",
    "clean": "remove unreferenced artifacts, after listing them and asking",
    "export": "write the policy to a folder for from_pretrained, with a model card",
}

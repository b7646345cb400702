"""The options of `polykern capture` alone."""

from pathlib import Path
from typing import Annotated

from polykern.cli import options

WHAT, HOW = options.WHAT, options.HOW
DATA, WHICH = "The data", "Which rows"

_option = options.option

CorpusOf = Annotated[
    list[str] | None,
    _option("--corpus", panel=DATA, metavar="PATH",
            help=".txt, .jsonl, .parquet (or .gz, .zst), a folder of them, stdlib (texts that come with Python) "
                 "or - (standard input); repeatable."),
]  # fmt: skip
ImagesOf = Annotated[
    Path | None,
    _option("--images", panel=DATA, metavar="DIR",
            help="Folder of pictures; subfolders are their classes. Default: the model's numbered examples."),
]  # fmt: skip
TextKey = Annotated[str, _option("--text-key", panel=DATA, metavar="NAME", help="Key of the text in a record.")]
LimitTokens = Annotated[
    int | None, _option("--limit-tokens", panel=DATA, min=1, metavar="N", help="Rows that are kept, at most.")
]
LimitDocuments = Annotated[
    int | None,
    _option("--limit-documents", panel=DATA, min=1, metavar="N", help="Documents or pictures read, at most."),
]
Strict = Annotated[
    bool, _option("--strict", panel=DATA, metavar="", help="End where something cannot be read, not pass it over.")
]
Start = Annotated[
    str, _option("--start", panel=WHAT, metavar="MODULE", help="Module at whose input the code begins.")
]
Select = Annotated[
    list[str] | None,
    _option("--select", panel=WHAT, metavar="GLOB",
            help="Nonlinearities that make the code, by module or TransformerLens name; repeatable. Default: all; "
                 "of a language model those of the MLPs."),
]  # fmt: skip
Block = Annotated[
    list[int] | None,
    _option(
        "--block", panel=WHAT, min=0, metavar="N", help="Blocks of a transformer, by number from 0; repeatable."
    ),
]
FromBlock = Annotated[
    int | None,
    _option("--from-block", panel=WHAT, min=0, metavar="N",
            help="All blocks from this one on: codes from a layer to the output."),
]  # fmt: skip
Activations = Annotated[
    list[str] | None,
    _option("--activations", panel=WHAT, metavar="NAME:DTYPE",
            help="Keep pre-activations beside the codes, in fp16, bf16 or fp32; repeatable. DTYPE alone: all that "
                 "is selected. output:MODULE:DTYPE: what a module gives; input:MODULE:DTYPE: what it takes."),
]  # fmt: skip
TokensOf = Annotated[
    str,
    _option("--tokens", panel=WHICH, metavar="RULE",
            help="every, stride:N or sample:N: N of a sequence, evenly spaced, without its first 100 of 1024."),
]  # fmt: skip
Skip = Annotated[
    int | None,
    _option("--skip", panel=WHICH, min=0, metavar="N", help="Tokens at the beginning of a sequence left out."),
]
Length = Annotated[
    int | None,
    _option("--length", panel=WHICH, min=1, metavar="N",
            help="Tokens of a sequence. Default: 1024, or as many as the model can read."),
]  # fmt: skip
Pack = Annotated[
    bool | None,
    _option("--pack/--no-pack", panel=WHICH, metavar="",
            help="Documents one behind the other with a separator, or each by itself. Default: packed for causal "
                 "models."),
]  # fmt: skip
Positions = Annotated[
    str,
    _option("--positions", panel=WHICH, metavar="WHERE",
            help="Of pictures: whole (one row each), all places of a feature map, centre, or Y,X."),
]  # fmt: skip
Dtype = Annotated[
    str, _option("--dtype", panel=HOW, metavar="NAME", help="Type of the weights: float32, bfloat16 or float16.")
]
Batch = Annotated[
    int | None,
    _option(
        "--batch", panel=HOW, min=1, metavar="N", help="Tokens or pictures of a pass; kept when a run goes on."
    ),
]
ShardSize = Annotated[
    str, _option("--shard-size", panel=HOW, metavar="SIZE", help="Size of the pieces in which codes are committed.")
]

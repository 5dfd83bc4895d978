"""Parallel text in, a binary corpus out, in bounded memory whatever the size.

1. *Read*: every pair is tidied, judged (`ems_fast.corpus.cleaning`), turned so that English comes
   first (else the language whose code sorts first: en-de and de-en land in one shard), hashed and
   spooled to disk by language pair.
2. *Choose*: within each language pair duplicates are marked, up to `valid_pairs` are held out,
   and training pairs that share a sentence with those are marked too.
3. *Train the tokenizer* on a sample of the training text, in which a language of n sentences has
   a share in proportion to √n.
4. *Write*: the spool is tokenised block by block, on several threads, and appended to the shards.

Memory holds a few blocks of text, one partition of hashes and the tokenizer's sample, each of a
fixed size. The result depends on the input, the arguments and the seed alone, byte for byte.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from ems_fast.corpus.binary import MANIFEST, TOKENIZER, BinaryCorpus, Shard, ShardWriter
from ems_fast.corpus.cleaning import reason_to_drop, tidy
from ems_fast.corpus.hashing import flag_duplicates, key_digest, mix, pair_hashes, text_key
from ems_fast.corpus.held_out import (
    DUPLICATE,
    HELD_OUT,
    OVERLAP,
    TRAIN,
    HeldOut,
    choose_held_out,
    keep_apart,
)
from ems_fast.corpus.readers import Reader, open_corpora
from ems_fast.corpus.report import CorpusReport, InputReport, summarise
from ems_fast.corpus.spool import Block, Spool
from ems_fast.corpus.writable import WritingCheck
from ems_fast.errors import InputError, check, check_one_of
from ems_fast.files.staging import staged_folder
from ems_fast.ops.threads import usable_processors
from ems_fast.text.languages import canonical_order
from ems_fast.text.tokenizer import Tokenizer, TokenizerType, train_tokenizer

_SAMPLE_SEED = 1 << 32  # apart from the seeds of the held-out choice


def prepare(
    corpora: str | Path | Reader | Iterable[str | Path | Reader],
    output_dir: str | Path,
    *,
    vocab_size: int = 64_000,
    tokenizer_type: TokenizerType = "unigram",
    languages: str | None = None,
    tags: Sequence[str] | None = None,
    tokenizer: str | Path | Tokenizer | None = None,
    valid_pairs: int = 500,
    max_tokens: int = 120,
    tokenizer_sentences: int = 500_000,
    seed: int = 0,
    num_threads: int | None = None,
    progress: bool = True,
) -> BinaryCorpus:
    """Clean, deduplicate and tokenise parallel text into a folder that training maps into memory.

    Args:
        corpora: files, folders and readers, as `open_corpora` takes them.
        output_dir: the corpus's folder; it must not exist or be empty. It appears when everything
            is done; an interrupted call leaves nothing behind.
        vocab_size: pieces of the tokenizer that is trained; fewer if the text gives no more.
        tokenizer_type: ``unigram`` or ``bpe``; the first is better for token tables, and is trained
            in a minute where the second takes seconds.
        languages: languages of files that do not say: ``en-de``, or ``en-{stem}`` by file name.
        tags: keep only lines of TSV files with one of these tags.
        tokenizer: a SentencePiece model to use instead of training one, or the folder of a run or a
            corpus that has one: to go on from that run, the text has to be read as it reads. It
            has to be able to write the text: an error where a language has more than 5 % of
            characters without a piece. Bytes, which our own tokenizers have, count as pieces.
        valid_pairs: pairs of each language pair to hold out; never more than 5 % of it.
        max_tokens: pairs with a longer sentence are dropped.
        tokenizer_sentences: size of the sample that the tokenizer is trained on.
        seed: of the choice of held-out pairs and of that sample.
        num_threads: threads that tokenise; by default one a core.
        progress: show a progress bar.

    Returns:
        The corpus, opened. Its `report` says what was read, kept and dropped.

    Raises:
        InputError: an argument or a file cannot be used, no pair is left, or the disk is full.
    """
    for argument, value, least in (
        ("vocab_size", vocab_size, 258),
        ("valid_pairs", valid_pairs, 0),
        ("max_tokens", max_tokens, 1),
        ("tokenizer_sentences", tokenizer_sentences, 1),
        ("seed", seed, 0),
        ("num_threads", 1 if num_threads is None else num_threads, 1),
    ):
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
        check(fits, argument, value, f"an integer of at least {least}")
    check_one_of("tokenizer_type", tokenizer_type, get_args(TokenizerType))
    if isinstance(tokenizer, (str, Path)):
        tokenizer = Tokenizer.from_file(tokenizer)
    output = Path(output_dir)
    with staged_folder(output) as folder:
        readers = open_corpora(corpora, languages=languages, tags=tags)
        steps = _Steps(
            folder=folder,
            report=CorpusReport([InputReport(reader.name) for reader in readers]),
            max_tokens=max_tokens,
            seed=seed,
            num_threads=num_threads or usable_processors(),
            progress=progress,
        )
        check_writing = None if tokenizer is None else WritingCheck(tokenizer)
        selections = steps.choose(steps.read(readers, check_writing), valid_pairs)
        if tokenizer is None:
            sample = steps.sample(selections, tokenizer_sentences)
            tokenizer = train_tokenizer(sample, vocab_size, tokenizer_type)
            if tokenizer.vocab_size < vocab_size:
                steps.report.notes.append(
                    f"the text has too little in it for vocab_size {vocab_size}; the tokenizer "
                    f"has {tokenizer.vocab_size} pieces"
                )
        shards = steps.write(selections, tokenizer)
        steps.finish(shards, tokenizer)
    return BinaryCorpus.open(output)


@dataclass
class _Selection:
    """What was chosen within one language pair of the spool."""

    spool: Spool
    languages: tuple[str, str]
    duplicates: Path  # a byte a pair
    held_out: HeldOut = field(init=False)
    num_training: int = 0

    def blocks(self) -> Iterator[tuple[Block, npt.NDArray[np.bool_]]]:
        """The pairs block by block, with the flags of duplicates."""
        for block in self.spool.blocks(self.languages):
            count = len(block.records)
            yield block, np.fromfile(self.duplicates, np.bool_, count, offset=block.start)

    def status(self) -> Iterator[tuple[Block, npt.NDArray[np.uint8]]]:
        """The pairs block by block, with what becomes of each."""
        for block, duplicate in self.blocks():
            yield block, self.held_out.status(block.records, duplicate)


@dataclass
class _Steps:
    folder: Path
    report: CorpusReport
    max_tokens: int
    seed: int
    num_threads: int
    progress: bool

    def _bar(self, what: str, total: int | None = None) -> tqdm[Any]:
        return tqdm(
            desc=what, unit=" pairs", unit_scale=True, total=total, disable=not self.progress
        )

    def read(self, readers: list[Reader], writing: WritingCheck | None) -> Spool:
        """Spool what is of use of every input; look whether it can be written."""
        spool = Spool(self.folder / "spool")
        with self._bar("reading") as bar:
            for index, (reader, entry) in enumerate(zip(readers, self.report.inputs, strict=True)):
                for raw_source, raw_target, source_lang, target_lang, _ in reader:
                    entry.read += 1
                    bar.update()
                    texts = tidy(raw_source), tidy(raw_target)
                    keys = text_key(texts[0]), text_key(texts[1])
                    reason = reason_to_drop(*texts, *keys)
                    if reason is not None:
                        entry.dropped[reason] += 1
                        continue
                    if writing is not None:
                        writing.add(source_lang, texts[0])
                        writing.add(target_lang, texts[1])
                    languages = canonical_order(source_lang, target_lang)
                    if languages[0] != source_lang:
                        texts, keys = texts[::-1], keys[::-1]
                    digests = key_digest(keys[0]) + key_digest(keys[1])
                    spool.add(languages, "\n".join(texts), digests, index)
        if writing is not None:
            writing.finish()
        spool.flush()
        return spool

    def choose(self, spool: Spool, valid_pairs: int) -> list[_Selection]:
        """Find duplicates and pairs to hold out, and count what is left for training."""
        selections = []
        for languages, count in sorted(spool.counts.items()):
            flags = self.folder / "spool" / f"{'-'.join(languages)}.duplicates"
            duplicates = flag_duplicates(
                flags,
                (pair_hashes(block.records["hashes"]) for block in spool.blocks(languages)),
                count,
            )
            selection = _Selection(spool, languages, flags)
            selection.held_out = choose_held_out(
                selection.blocks, count - duplicates, valid_pairs, self.seed
            )
            selections.append(selection)
        keep_apart([selection.held_out for selection in selections])
        for selection in selections:
            for block, status in selection.status():
                inputs = block.records["input"]
                self.report.count("duplicate", inputs[status == DUPLICATE])
                self.report.count("held_out_overlap", inputs[status == OVERLAP])
                selection.num_training += int(np.count_nonzero(status == TRAIN))
        if not any(selection.num_training for selection in selections):
            raise InputError(f"no pair is left after cleaning; {summarise(self.report)}")
        return selections

    def sample(self, selections: list[_Selection], wanted: int) -> list[str]:
        """About `wanted` different sentences of the training text, balanced over languages."""
        counts: Counter[str] = Counter()
        for selection in selections:
            for language in selection.languages:
                counts[language] += selection.num_training
        rates = _sampling_rates(counts, wanted)
        sample: dict[int, str] = {}
        for selection in selections:
            limits = np.array(
                [min(int(rates[language] * 2**64), 2**64 - 1) for language in selection.languages],
                dtype=np.uint64,
            )
            for block, status in selection.status():
                hashes = block.records["hashes"]  # (n, 2)
                chosen = mix(hashes, self.seed + _SAMPLE_SEED) <= limits
                chosen[status != TRAIN] = False
                if chosen.any():
                    texts = block.texts()
                    for position in np.flatnonzero(chosen).tolist():
                        sample.setdefault(int(hashes.flat[position]), texts[position])
        return list(sample.values())

    def write(self, selections: list[_Selection], tokenizer: Tokenizer) -> list[Shard]:
        """Tokenise what was chosen into shards, and remove the spool."""
        shards = []
        with self._bar("writing", selections[0].spool.counts.total()) as bar:
            for selection in selections:
                source, target = selection.languages
                path = self.folder / "shards" / f"{source}-{target}"
                with ShardWriter(path, source, target, tokenizer.vocab_size) as writer:
                    for block, status in selection.status():
                        self._write_block(writer, block, status, tokenizer)
                        bar.update(len(status))
                selection.spool.remove(selection.languages)  # its room is another shard's
                if writer.shard().num_pairs:
                    shards.append(writer.shard())
                else:
                    shutil.rmtree(path)
                    self.report.notes.append(f"no pair of {source}-{target} is left")
        shutil.rmtree(self.folder / "spool")
        return shards

    def _write_block(
        self,
        writer: ShardWriter,
        block: Block,
        status: npt.NDArray[np.uint8],
        tokenizer: Tokenizer,
    ) -> None:
        used = np.flatnonzero((status == TRAIN) | (status == HELD_OUT))
        if len(used) == 0:
            return
        texts = block.texts()
        sentences = [texts[2 * row + side] for row in used.tolist() for side in (0, 1)]
        tokens, offsets = tokenizer.encode_packed(sentences, num_threads=self.num_threads)
        lengths = np.diff(offsets).reshape(-1, 2)
        empty = (lengths == 0).any(axis=1)
        long = (lengths > self.max_tokens).any(axis=1) & ~empty
        held_out = (status[used] == HELD_OUT) & ~empty & ~long
        train = (status[used] == TRAIN) & ~empty & ~long
        inputs = block.records["input"][used]
        self.report.count("empty", inputs[empty])
        self.report.count("too_many_tokens", inputs[long])
        self.report.count("held_out", inputs[held_out])
        self.report.count("kept", inputs[train])
        for row in np.flatnonzero(held_out).tolist():
            writer.add_valid(sentences[2 * row], sentences[2 * row + 1])
        writer.add_pairs(
            tokens[np.repeat(train, lengths.sum(axis=1))],
            lengths[train].reshape(-1),
            block.records["hashes"][used[train]].reshape(-1),
        )

    def finish(self, shards: list[Shard], tokenizer: Tokenizer) -> None:
        """Write the tokenizer and, last, the manifest."""
        if not shards:
            raise InputError(
                f"max_tokens: no pair has at most {self.max_tokens} tokens on both sides; "
                f"{summarise(self.report)}"
            )
        sentences: Counter[str] = Counter()
        for shard in shards:
            sentences[shard.source] += shard.num_pairs
            sentences[shard.target] += shard.num_pairs
        corpus = BinaryCorpus(
            path=self.folder,
            languages=sorted(sentences, key=lambda code: (-sentences[code], code)),
            shards=sorted(shards, key=lambda shard: (-shard.num_pairs, shard.name)),
            vocab_size=tokenizer.vocab_size,
            tokenizer_sha256=tokenizer.sha256,
            max_tokens=self.max_tokens,
            report=self.report,
        )
        (self.folder / TOKENIZER).write_bytes(tokenizer.model)
        text = json.dumps(corpus.to_json(), indent=2, ensure_ascii=False) + "\n"
        (self.folder / MANIFEST).write_text(text, encoding="utf-8")


def _sampling_rates(counts: Counter[str], wanted: int) -> dict[str, float]:
    """The share of each language's sentences to take, so that shares of the sample go as √n.

    A language with fewer sentences than its share gives all it has, and the others its rest.
    """
    rates: dict[str, float] = {}
    left = float(wanted)
    weights = {language: n**0.5 for language, n in counts.items() if n}
    for language in sorted(weights, key=lambda code: (counts[code], code)):
        share = left * weights[language] / sum(weights.values())
        rates[language] = min(1.0, share / counts[language])
        left -= min(share, counts[language])
        del weights[language]
    return rates | {language: 0.0 for language in counts if language not in rates}

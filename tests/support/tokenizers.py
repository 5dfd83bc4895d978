"""Small SentencePiece models of every kind that is known, and text that is hard for them."""

from __future__ import annotations

import io
from typing import Any

import sentencepiece

from ems_fast.text.tokenizer import Tokenizer

# Scripts, marks in any order, spaces of all kinds, names of special tokens, emoji.
SENTENCES = [
    "Good morning, how are you?",
    "GUTEN MORGEN, schöne Grüße aus Köln! Straße",
    "Ｆｕｌｌ－ｗｉｄｔｈ　ｔｅｘｔ ﬁne ½ ①",
    "  two  spaces\tand\nlines \u00a0 \u3000 end  ",
    "你好，世界。今天天气不错", "こんにちは世界 ﾊﾝｶｸｶﾅ ﾊﾞﾝﾄﾞ ハ\u3099",
    "안녕하세요 세계", "ㅋㅋㅋ ㅎㅎ",
    "Привет, как дела? И\u0306 ё Ё", "مَرْحَبًا بِالعَالَمِ اللّٰه", "שָׁלוֹם עוֹלָם", "नमस्ते दुनिया क\u093c",
    "สวัสดีชาวโลก น้ำ", "Tiếng Việt: ế Ế ậ e\u0302\u0301 E\u0302\u0301 a\u0323\u0302 â\u0323",
    "Γειά σου Κόσμε ς Σ ΐ", "İstanbul I\u0307stanbul ışık",
    "ქართული Հայերեն தமிழ் తెలుగు ಕನ್ನಡ മലയാളം",
    "E\u0301 Q\u0301 x\u0323\u0301 A\U0001f3fd 👍🏽 👩‍👩‍👧 ☺️ 🇩🇪",
    "\u0301 begins with a mark", "\ufeffbom\u200b\u200d x",
    "<pad> <unk> <0x41> ▁ a▁b ▁▁", "", " ", "\u200b", "🦖𓂀𝟄 \x01 \x85", "0123456789 3.14 ٣",
]  # fmt: skip


def sentencepiece_model(**options: Any) -> Tokenizer:
    """A tokenizer of the sentences above."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([s for s in SENTENCES if s.strip()] * 3), model_writer=model,
        pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, minloglevel=2, num_threads=1,
        **{"character_coverage": 0.98, "byte_fallback": True, **options},
    )  # fmt: skip
    return Tokenizer(model.getvalue())


BPE = {"model_type": "bpe", "vocab_size": 560, "normalization_rule_name": "nmt_nfkc_cf"}
UNIGRAM = {**BPE, "model_type": "unigram", "vocab_size": 460}
MODELS = {
    "ours": BPE,
    "case": {**BPE, "normalization_rule_name": "nmt_nfkc"},
    "no rules": {**BPE, "normalization_rule_name": "identity", "vocab_size": 600},
    "spaces kept": {**BPE, "remove_extra_whitespaces": False, "add_dummy_prefix": False},
    "no bytes": {**BPE, "byte_fallback": False, "vocab_size": 300},
    "unigram": UNIGRAM,
    "unigram, no bytes": {**UNIGRAM, "byte_fallback": False, "vocab_size": 220},
}

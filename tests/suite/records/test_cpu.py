"""Processors are told apart by what decides which bits they compute."""

from __future__ import annotations

from itertools import combinations

import pytest

from suite.records.cpu import VARIABLES, read_cpu, settings, this_cpu

SSE = "fpu mmx sse sse2 ssse3 fma sse4_1 sse4_2 avx f16c"
AVX512 = f"{SSE} avx2 avx512f avx512dq avx512cd avx512bw avx512vl avx512_vnni"


def x86(name: str, family: int, model: int, stepping: int, flags: str) -> str:
    """Two cores, as Linux shows them."""
    lines = [
        "vendor_id\t: Some",
        f"cpu family\t: {family}",
        f"model\t\t: {model}",
        f"model name\t: {name}",
        f"stepping\t: {stepping}",
        "cpu MHz\t\t: 2596.{core}",
        "apicid\t\t: {core}",
        f"flags\t\t: {flags}",
        "bugs\t\t: sysret_ss_attrs",
        "power management:",
    ]
    text = "\n".join(lines)
    return "\n\n".join(f"processor\t: {core}\n" + text.format(core=core) for core in range(2)) + "\n\n"


def arm(*parts: str, features: str = "fp asimd evtstrm aes crc32 atomics fphp asimdhp") -> str:
    block = (
        "processor\t: {}\nBogoMIPS\t: 243.75\nFeatures\t: {}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        "CPU variant\t: 0x3\nCPU part\t: {}\nCPU revision\t: 1"
    )
    return "\n\n".join(block.format(core, features, part) for core, part in enumerate(parts)) + "\n\n"


SAPPHIRE = x86(
    "Intel(R) Xeon(R) Platinum 8481C", 6, 143, 8,
    f"{AVX512} avx_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8",
)  # fmt: skip
GRANITE = x86(
    "Intel(R) Xeon(R) 6975P-C", 6, 173, 1, f"{AVX512} avx512_bf16 amx_bf16 amx_tile amx_int8 amx_fp16"
)
CASCADE = x86("Intel(R) Xeon(R) Gold 6230 CPU", 6, 85, 7, AVX512)
ZEN5 = x86("AMD EPYC", 26, 2, 1, f"{AVX512} avx_vnni avx512_bf16")
ZEN4 = x86("AMD EPYC", 25, 17, 1, f"{AVX512} avx512_bf16")
ZEN3 = x86("AMD EPYC 7763 64-Core Processor", 25, 1, 1, f"{SSE} avx2")
N1 = arm("0xd0c", "0xd0c")
V1 = arm("0xd40", features="fp asimd sve bf16 i8mm")


@pytest.mark.parametrize(
    ("text", "model", "level"),
    [
        (SAPPHIRE, "Intel(R) Xeon(R) Platinum 8481C (family 6 model 143 stepping 8)", "avx512+amx"),
        (GRANITE, "Intel(R) Xeon(R) 6975P-C (family 6 model 173 stepping 1)", "avx512+amx+fp16"),
        (CASCADE, "Intel(R) Xeon(R) Gold 6230 CPU (family 6 model 85 stepping 7)", "avx512+vnni"),
        (ZEN5, "AMD EPYC (family 26 model 2 stepping 1)", "avx512+bf16"),
        (ZEN3, "AMD EPYC 7763 64-Core Processor (family 25 model 1 stepping 1)", "avx2"),
        (x86("Intel Core i5-12400", 6, 151, 5, f"{SSE} avx2 avx_vnni"),
         "Intel Core i5-12400 (family 6 model 151 stepping 5)", "avx2+vnni"),
        (N1, "aarch64 (implementer 0x41 part 0xd0c variant 0x3 revision 1)", "asimd"),
        (V1, "aarch64 (implementer 0x41 part 0xd40 variant 0x3 revision 1)", "sve+bf16"),
        (arm("0xd05", "0xd05", "0xd0b"), "aarch64 (implementer 0x41 part 0xd05 variant 0x3 revision 1) + "
         "aarch64 (implementer 0x41 part 0xd0b variant 0x3 revision 1)", "asimd"),
        ("processor : 0\ncpu : POWER9, altivec supported\nclock : 3800MHz\n", "some processor", "none"),
        ("", "some processor", "none"),
    ],
)  # fmt: skip
def test_model_and_instruction_set(text: str, model: str, level: str) -> None:
    cpu = read_cpu(text, "aarch64", "some processor")
    assert (cpu.model, cpu.level) == (model, level)
    assert "\n" not in cpu.model


def test_processors_of_one_name_differ() -> None:
    every = [read_cpu(text, "aarch64") for text in (SAPPHIRE, GRANITE, CASCADE, ZEN5, ZEN4, ZEN3, N1, V1)]
    assert all(one.model != other.model for one, other in combinations(every, 2))


def test_where_nothing_is_known_the_architecture_stands() -> None:
    assert read_cpu("", "riscv64").model == "riscv64"


def test_this_machine_has_a_processor() -> None:
    assert this_cpu().model
    assert this_cpu() == this_cpu()


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX2", "AVX2"),
        ("MKL_CBWR", "AVX2,STRICT", "AVX2,STRICT"),
        ("NPY_DISABLE_CPU_FEATURES", " AVX2  FMA3\n", "AVX2,FMA3"),
        ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", None),
        (
            "GLIBC_TUNABLES",
            "glibc.malloc.hugetlb=1:glibc.cpu.hwcaps=-AVX2,-FMA",
            "glibc.cpu.hwcaps=-AVX2,-FMA",
        ),
        ("DNNL_MAX_CPU_ISA", "", None),
        ("PATH", "/bin", None),
    ],
)
def test_settings_are_those_that_are_set(name: str, value: str, shown: str | None) -> None:
    assert settings({name: value}) == ({} if shown is None else {name: shown})


@pytest.mark.parametrize("value", ["/home/me/secret", "a\nb/c", "x" * 300, "é"])
def test_a_value_that_is_no_word_is_a_hash(value: str) -> None:
    (shown,) = settings({"MKL_CBWR": value}).values()
    assert shown.startswith("sha256:")
    assert len(shown) < 30
    assert settings({"MKL_CBWR": f"{value}2"}) != settings({"MKL_CBWR": value})


def test_variables_are_named_in_the_order_in_which_they_are_shown() -> None:
    assert list(VARIABLES) == sorted(set(VARIABLES))

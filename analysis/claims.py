"""What the paper and a review of it claim or ask (B01 to B27, P01 to P04), and by which of our comparisons each is judged."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """A comparison that judges a claim: `arm` should be better than `versus` in `ablation`.

    Attributes:
        kind: "better"; or "lower ratio": the ratio at which `arm`'s kind of mask is best should lie below that of `versus`.
        datasets: on which of the paper's data sets it is what the claim says; empty: on all.
    """

    ablation: str
    arm: str
    versus: str
    kind: str = "better"
    datasets: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The comparison as a page names it."""
        return f"{self.arm} {'best ratio below' if self.kind == 'lower ratio' else 'above'} {self.versus}"


@dataclass(frozen=True)
class Claim:
    """A statement with the paper's evidence; without checks, `why_not` says why no run of ours judges it."""

    id: str
    statement: str
    evidence: str
    checks: tuple[Check, ...] = ()
    why_not: str = ""


def _ratio(kind: str, versus: str, ablation: str = "mask_ratio_by_sampling") -> Check:
    return Check(ablation, kind, versus, "lower ratio")


AT_7_OF_8 = tuple(Check("mask_ratio_by_sampling", "tube 0.875", versus) for versus in ("random 0.875", "frame 0.875"))
CLAIMS = (
    Claim(
        "B01",
        "Without pre-training a plain ViT needs very large labelled data.",
        "Table 2: from scratch 32.6, 68.8, 51.4, 18.0",
        (Check("methods", "VideoMAE", "scratch"), Check("pretrain_strategy", "VideoMAE", "scratch")),
    ),
    Claim(
        "B02",
        "Video pre-training beats supervised pre-training on images.",
        "Table 1d: 69.6 against 61.8, 80.0 against 78.9",
        (Check("pretrain_strategy", "VideoMAE", "ImageNet-21k, supervised"),),
    ),
    Claim(
        "B03", "Video data sets are small beside image ones.", "introduction", why_not="a fact about data sets, not about runs"
    ),
    Claim("B04", "It is the first masked video pre-training of a plain ViT.", "introduction", why_not="a claim of priority"),
    Claim(
        "B05",
        "Is staying with a plain ViT an advantage?",
        "none (an open question)",
        why_not="backbone_size varies the size; no other architecture is built here",
    ),
    Claim(
        "B06",
        "Masked autoencoding works for self-supervision from video.",
        "Table 2: ahead of contrastive pre-training on four data sets",
        (Check("methods", "VideoMAE", "MoCo v3"), Check("methods", "VideoMAE", "scratch")),
    ),
    Claim("B07", "What it finds was overlooked for images and language.", "introduction", why_not="a claim about other work"),
    Claim(
        "B08",
        "It works with as few as 3.5k videos.",
        "Table 2, HMDB51: 62.6 against 18.0 from scratch",
        (Check("small_data", "all, ratio 0.75", "scratch"), Check("data_size", "1,000 videos, same steps", "scratch")),
    ),
    Claim(
        "B09",
        "Across a domain gap, quality of the videos matters more than their number.",
        "figure on data efficiency: 42k in-domain 68.7, 240k of another domain 68.5; Table 1e",
        (
            Check("quality_vs_quantity", "in-domain, quarter", "out of domain, all"),
            Check("quality_vs_quantity", "in-domain, all", "out of domain, all"),
        ),
    ),
    Claim(
        "B10",
        "(review) Patches overlap.",
        "none: the paper's do not",
        why_not="wrong; tests hold that cutting and joining invert",
    ),
    Claim("B11", "(review) 256 px give 16 x 16 patches, 320 px 20 x 20.", "arithmetic", why_not="arithmetic; a test of the grid"),
    Claim(
        "B12",
        "(wish) How should one mask?",
        "Table 1b and the figure on the ratio",
        (
            Check("mask_sampling", "tube 0.9", "random 0.9"),
            Check("mask_sampling", "tube 0.9", "frame 0.875"),
            Check("mask_sampling", "tube 0.9", "tube 0.75"),
            *AT_7_OF_8,
        ),
    ),
    Claim(
        "B13",
        "The encoder sees only visible cubes.",
        "section 3.3",
        why_not="by construction; tests and every table count the cubes",
    ),
    Claim(
        "B14",
        "The loss counts only hidden cubes.",
        "section 3.1; on images a loss over all is about 0.5 points worse",
        (Check("loss_region", "hidden", "all"),),
    ),
    Claim(
        "B15",
        "Redundancy in time makes the task too easy unless masks and strides are large.",
        "Tables 1b and 1c",
        (Check("mask_sampling", "tube 0.9", "tube 0.75"), Check("frame_stride", "default", "half")),
    ),
    Claim(
        "B16",
        "(review, exaggerated) Frame and random masks are trivial and halve the gain.",
        "Table 1b: random -1.3, frame -8.1 on SSv2",
        (Check("mask_sampling", "tube 0.9", "random 0.9"), Check("mask_sampling", "tube 0.9", "frame 0.875"), *AT_7_OF_8),
    ),
    Claim("B17", "Strides are 2 on SSv2 and 4 on K400.", "section 3.3", why_not="a setting; it is in the recipes"),
    Claim("B18", "Cubes are 2 x 16 x 16.", "section 3.3", why_not="a setting; tests hold parity with a Conv3d"),
    Claim(
        "B19",
        "Images fall off above 75 %, videos only above 95 %.",
        "He et al., figure 5; the video curve is not known as numbers",
        (_ratio("image", "video", "image_vs_video_ratio"),),
    ),
    Claim(
        "B20",
        "(loose) The tube mask follows a Bernoulli distribution.",
        "section 3.3",
        why_not="the code draws a fixed count; both exist",
    ),
    Claim(
        "B21", "Joint space-time attention is affordable at 90 to 95 %.", "Table 3", why_not="a cost: see the hours of efficiency"
    ),
    Claim(
        "B22",
        "Tube masks are better than random ones.",
        "Table 1b: +1.3 and +0.5; mae_st finds the opposite on K400",
        (
            Check("mask_sampling", "tube 0.9", "random 0.9"),
            AT_7_OF_8[0],
            Check("mask_sampling_maest", "VideoMAE, tube", "VideoMAE, random"),
            Check("mask_sampling_maest", "mae_st, tube", "mae_st, random"),
        ),
    ),
    Claim(
        "B23",
        "(wish) How does accuracy depend on the ratio of random masks?",
        "one ratio in the paper",
        (
            Check("mask_ratio_by_sampling", "random 0.9", "random 0.5"),
            Check("mask_ratio_by_sampling", "random 0.9", "random 0.75"),
            Check("mask_ratio_by_sampling", "random 0.875", "random 0.5"),
            Check("mask_ratio_by_sampling", "random 0.875", "random 0.75"),
        ),
    ),
    Claim(
        "B24",
        "(hypothesis) Random masks want a lower ratio than tubes.",
        "AdaMAE: random 75 % 67.9, 90 % 68.3; mae_st: best at 90 %: evidence against",
        (_ratio("random", "tube"),),
    ),
    Claim(
        "B25",
        "The squared error is best, by little.",
        "Table 1f: 69.6, 69.1, 68.9; 80.0, 79.7, 79.6",
        (Check("loss", "MSE", "L1"), Check("loss", "MSE", "smooth L1")),
    ),
    Claim(
        "B26",
        "The squared error is convex, smooth, and Gaussian likelihood.",
        "rationale",
        why_not="mathematics, not a measurement",
    ),
    Claim(
        "B27",
        "A unimodal loss blurs, which does not hurt the understanding of actions.",
        "rationale",
        why_not="sharpness against accuracy is not measured here; the reconstruction sheets show the blur",
    ),
    Claim(
        "P01",
        "A decoder of four blocks is better than one.",
        "Table 1a: 69.6 against 68.5, 80.0 against 79.0",
        (Check("decoder_depth", "depth 4", "depth 1"),),
    ),
    Claim(
        "P02",
        "Normalised pixels are a better target than raw ones.",
        "section 3.1; mae_st, Table 2b: 84.4 against 83.8",
        (Check("target_normalisation", "per channel", "raw"), Check("target_normalisation", "per cube", "raw")),
    ),
    Claim(
        "P03",
        "Fewer videos cost accuracy at the same epochs, and much less at the same steps.",
        "figure on data efficiency: a quarter of SSv2 for as many steps 68.7 of 69.6",
        (
            Check("data_size", "all videos", "quarter, same epochs"),
            Check("data_size", "quarter, same steps", "quarter, same epochs"),
            Check("data_size", "all videos", "quarter, same steps"),
        ),
    ),
    Claim(
        "P04",
        "Pre-training on the task's own videos beats pre-training on images and on other videos.",
        "Table 1e, SSv2: 69.6 against 64.8 and 68.5",
        tuple(
            Check("pretrain_dataset", own, other, datasets=(own,))
            for own, others in {"SSV2": ("images", "K400"), "K400": ("images", "SSV2")}.items()
            for other in others
        ),
    ),
)

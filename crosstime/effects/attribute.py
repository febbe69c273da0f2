"""Which features cause a task, and at which checkpoints: indirect effects over training.

Given C checkpoints, a crosscoder of F features, and a task of minimal pairs, `attribute` works as follows:

1. **Prompts.** Tokenize the pairs. A prompt ends before the first token in which right and wrong sentence differ, and
   its metric is m = logit(wrong) - logit(right) at the last token, so that a feature that helps has a positive effect
   when it is taken away (`tasks`).
2. **Decomposition.** Run every prompt at all C checkpoints, encode the C activations of each token into one code f, and
   decode it at every checkpoint: ``x_c = f @ directions_c + bias_c + e_c`` (`crosstime.crosscoders.decompose`). The
   checkpoints share f; what a feature writes, and the error term e_c, are their own.
3. **Baseline.** At each checkpoint choose the state to which features and error term move: zero (CTT), the mean over
   the task's tokens, another prompt's state, or the patch prompt's.
4. **Indirect effects.** Open one checkpoint at a time and estimate, for every feature and for the error term, how much
   m changes along the way from the clean state to the baseline (`interventions.effects`): by integrated gradients, by
   one gradient, or exactly. The blocks below the crosscoder's site are skipped.
5. **Result.** An `Attribution` keeps the sparse effects of all checkpoints, entry by entry. Its tables give means over
   prompts with bootstrap intervals, RelIE, RelDec, and classes of features (`crosstime.effects.relie`).

Source: CTT (Bayazit, Mueller & Bosselut, arXiv 2509.05291), section 3.2, for effects and RelIE; Marks et al. 2024
(arXiv 2403.19647), section 2, for effects of features and error terms.
"""

from __future__ import annotations

from dataclasses import replace

from crosstime.crosscoders.decompose import TaskInput, prepare_task
from crosstime.crosscoders.open_crosscoder import DictionarySource, as_crosscoder
from crosstime.crosscoders.training_setting import trained_checkpoints
from crosstime.effects.attribution import Attribution
from crosstime.effects.refuse_missing_gradients import refuse_missing_gradients
from crosstime.errors import CrosscoderError
from crosstime.machine.progress import track
from crosstime.suites.compute import Compute
from crosstime.suites.suite import Suite
from interventions import Baseline, Effects, Estimator, Model, indirect_effects


def attribute(
    suite: Suite,
    crosscoder: DictionarySource,
    task: TaskInput,
    estimator: Estimator = Estimator(),
    *,
    seed: int = 0,
    compute: Compute = Compute(),
) -> Attribution:
    """Find the indirect effect of every feature, and of the error term, on a task at every checkpoint.

    Args:
        suite: a suite with at least the checkpoints of the crosscoder.
        crosscoder: the features: a crosscoder, its path or repository, or another `Dictionary`, such as those of
            `baseline_dictionaries`.
        task: a task in any form, or its name; what `decompose_task` returned saves reading the activations again.
        estimator: method, baseline, metric and quadrature. The baseline is given by name, since every checkpoint has
            its own: ``zero`` (CTT), ``mean``, ``resample``, or ``patch`` for tasks with patch prompts.
        seed: of the draw of prompts for the baseline ``resample``.
        compute: where and how the checkpoints run.

    Returns:
        The effects at each checkpoint; `Attribution.table` makes a table of them.

    Raises:
        CrosscoderError: the crosscoder does not fit the suite, the task has no patch prompts for the baseline
            ``patch``, or the baseline is not given by name.
        EmptyTaskError: no pair is left after tokenization.
        NoGradientsError: a method or an aggregation that needs gradients, on a server without them.

    Examples:
        >>> attribution = attribute(suite, crosscoder, task)  # doctest: +SKIP
        >>> attribution.table(attribution.top(10))  # doctest: +SKIP
        >>> attribute(suite, crosscoder, task, Estimator.named("ctt-as-written"))  # doctest: +SKIP

    Source: CTT (arXiv 2509.05291), section 3.2.
    """
    crosscoder = as_crosscoder(crosscoder)
    baseline = estimator.baseline
    if isinstance(baseline, Baseline):
        raise CrosscoderError("The baseline of an attribution is given by name, because every checkpoint has its own.")
    refuse_missing_gradients(trained_checkpoints(suite, crosscoder), compute, estimator)
    checkpoints, decomposed = prepare_task(suite, crosscoder, task, compute, baseline=baseline)

    with track(f"Effects on {decomposed.task.name}", None) as bar:

        def effects_at(checkpoint_index: int, model: Model) -> Effects:
            bar.note(checkpoints.revisions[checkpoint_index])
            # Made here, so that the baseline of only one checkpoint, up to T x F numbers, is in memory.
            state = decomposed.baseline(baseline, checkpoint_index, seed=seed)
            return indirect_effects(
                model,
                decomposed.prompts,
                crosscoder.origin.site,
                decomposed.clean[checkpoint_index],
                replace(estimator, baseline=state),
                progress=bar.part(checkpoint_index, len(checkpoints)),
            )

        effects = compute.each(checkpoints, effects_at)

    return Attribution(
        task=decomposed.task.name,
        revisions=checkpoints.revisions,
        effects=tuple(effects),
        decoder_norms=crosscoder.decoder_norms(),
        decomposed=decomposed,
    )

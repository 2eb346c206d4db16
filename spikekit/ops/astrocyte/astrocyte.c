/* The LIF modulated by astrocytes over a whole sequence; the equations are in reference.py and sequence.py.

   The spikes of a domain feed back on it at the next step, so the neurons of one sample's domain, which lie side by side,
   go through the sequence together: strip by strip within a step, and a thread for each domain of each sample. The step
   of the neurons themselves is the LIF's own. */
#include "native/lif.h"

enum acts_on { GAIN, THRESHOLD, PLASTICITY };

/* Sequences are [steps, groups, n], calcium [steps, groups, scales], sensed and activity [steps, groups], with the
   domains of a sample beside one another in the groups; parameters of astrocytes [domains, scales] or [domains], their
   gradients for each group. Absent ones are NULL. The order of the fields is that of spikekit/ops/astrocyte/cpu.py.
   Backward, grad_c is dL/dc after the last step, and becomes that before the first; next is zero. */
typedef struct {
    lif_call lif;
    int64_t groups, domains, scales;
    int32_t acts_on;
    double own, each_spike;
    const real *c0, *sensed, *decay, *weight, *bias, *strength;
    real *c, *calcium, *activity, *next;
    const real *grad_calcium;
    real *grad_c, *grad_sensed, *grad_decay, *grad_weight, *grad_bias, *grad_strength;
} astrocyte_call;

/* One astrocyte: its parameters, its neurons' place in a step, and the call of the LIF that their strips are given. */
typedef struct {
    const real *decay, *weight;
    real bias, strength;
    int64_t scales, at, n;
    lif_call strip;
    real level[STRIP];
} astrocyte;

static void meet(const astrocyte_call *c, int64_t group, astrocyte *a) {
    const int64_t d = group % c->domains;
    a->decay = c->decay + d * c->scales;
    a->weight = c->weight + d * c->scales;
    a->bias = c->bias[d];
    a->strength = c->strength[d];
    a->scales = c->scales;
    a->n = c->lif.neurons / c->groups;
    a->at = group * a->n;
    a->strip = c->lif;
}

static real softsign(real z) { return z / (1 + (z < 0 ? -z : z)); }

static real summed(const astrocyte *a, const real *calcium) {
    real z = a->bias;
    for (int64_t k = 0; k < a->scales; k++) z = z + a->weight[k] * calcium[k];
    return z;
}

/* Point the call at the m neurons from `i` of the domain on; g moves their thresholds where it acts on these. */
static void focus(const astrocyte_call *c, astrocyte *a, int64_t i, int64_t m, real g) {
    const int64_t at = (a->at + i) * c->lif.each;
    a->strip.beta = c->lif.beta + at;
    a->strip.quantum = c->lif.quantum + at;
    a->strip.threshold = c->lif.threshold + at;
    if (c->acts_on != THRESHOLD) return;
    const real *threshold = a->strip.threshold, factor = 2 - g;
    for (int64_t j = 0; j < (c->lif.each ? m : 1); j++) a->level[j] = threshold[j] * factor;
    a->strip.threshold = a->level;
}

static int64_t count(const real *s, int64_t n) {
    int32_t found = 0;
    for (int64_t i = 0; i < n; i++) found += s[i] != 0;
    return found;
}

static void scaled(const real *restrict x, real g, real *restrict out, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = g * x[i];
}

void astrocyte_forward(const astrocyte_call *c) {
    const real own = (real)c->own, rest = 1 - own, each_spike = (real)c->each_spike;
    #pragma omp parallel for schedule(static) num_threads(c->lif.threads) if (c->lif.threads > 1)
    for (int64_t group = 0; group < c->groups; group++) {
        astrocyte a;
        meet(c, group, &a);
        real *calcium = c->c + group * a.scales, *v = c->lif.v + a.at, modulated[STRIP];
        copy_or_zero(calcium, c->c0 ? c->c0 + group * a.scales : NULL, a.scales);
        copy_or_zero(v, c->lif.v0 ? c->lif.v0 + a.at : NULL, a.n);
        for (int64_t t = 0; t < c->lif.steps; t++) {
            const real g = 1 + a.strength * softsign(summed(&a, calcium));
            const int64_t row = t * c->lif.neurons + a.at, of_time = t * c->groups + group;
            int64_t spikes = 0;
            for (int64_t i = 0; i < a.n; i += STRIP) {
                const int64_t m = smaller(STRIP, a.n - i);
                const real *x = c->lif.x + row + i;
                if (c->acts_on == GAIN) {
                    scaled(x, g, modulated, m);
                    x = modulated;
                }
                focus(c, &a, i, m, g);
                real *s = c->lif.spikes + row + i;
                fire(&a.strip, 0, x, v + i, c->lif.membranes ? c->lif.membranes + row + i : NULL, s, m);
                if (own > 0) spikes += count(s, m);
            }
            real activity = (real)spikes * each_spike;
            if (c->sensed) activity = own > 0 ? own * activity + rest * c->sensed[of_time] : c->sensed[of_time];
            for (int64_t k = 0; k < a.scales; k++)
                calcium[k] = a.decay[k] * calcium[k] + (1 - a.decay[k]) * activity;
            if (c->calcium) {
                memcpy(c->calcium + of_time * a.scales, calcium, a.scales * sizeof(real));
                c->activity[of_time] = activity;
            }
        }
    }
}

static real product(const real *restrict a, const real *restrict b, int64_t n) {
    real sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* The thresholds' part of a strip. moved: -dL/dθ summed with the sign of step_back, for this step alone.
   Returns dL/dg; the gradients of the thresholds themselves are added up where they are learned. */
static real through_thresholds(const astrocyte_call *c, const astrocyte *a, int64_t i, int64_t m, real g,
                               const real *restrict moved) {
    const real *threshold = c->lif.threshold + (a->at + i) * c->lif.each, factor = 2 - g;
    real *restrict total = c->lif.grad_threshold + a->at + i;
    for (int64_t j = 0; j < m; j++) total[j] += factor * moved[j];
    if (c->lif.each) return -product(threshold, moved, m);
    real sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < m; j++) sum += moved[j];
    return -threshold[0] * sum;
}

/* One step back for the m neurons from i on, at `row` of the sequences; from_spikes: what a spike is worth to the
   calcium. Returns dL/dg. */
static real strip_back(const astrocyte_call *c, astrocyte *a, int64_t row, int64_t i, int64_t m, real g,
                       real from_spikes) {
    const lif_call *l = &c->lif;
    const int64_t at = a->at + i;
    const real *gs = l->grad_spikes + row + i;
    real upstream[STRIP], moved[STRIP], *gx = l->grad_x + row + i, *next = NULL;
    if (c->own > 0) {
        for (int64_t j = 0; j < m; j++) upstream[j] = gs[j] + from_spikes;
        gs = upstream;
    }
    focus(c, a, i, m, g);
    if (l->grad_beta) {
        a->strip.grad_beta = l->grad_beta + at;
        a->strip.grad_quantum = l->grad_quantum + at;
        a->strip.grad_threshold = l->grad_threshold + at;
        next = c->next + at;
    }
    if (c->acts_on == THRESHOLD) {
        memset(moved, 0, m * sizeof(real));
        a->strip.grad_threshold = moved;
    }
    back(&a->strip, 0, l->membranes + row + i, gs, l->grad_v0 + at, next, gx, m);
    if (c->acts_on == THRESHOLD) return through_thresholds(c, a, i, m, g, moved);
    const real of_gain = c->acts_on == GAIN ? product(gx, l->x + row + i, m) : 0;
    for (int64_t j = 0; j < m; j++) gx[j] = g * gx[j];
    return of_gain;
}

/* grad_beta, grad_threshold and grad_quantum are there together or not at all, and always with THRESHOLD. */
void astrocyte_backward(const astrocyte_call *c) {
    const real own = (real)c->own, rest = 1 - own, each_spike = (real)c->each_spike;
    #pragma omp parallel for schedule(static) num_threads(c->lif.threads) if (c->lif.threads > 1)
    for (int64_t group = 0; group < c->groups; group++) {
        astrocyte a;
        meet(c, group, &a);
        const int64_t first = group * a.scales;
        real *gc = c->grad_c + first;
        for (int64_t t = c->lif.steps - 1; t >= 0; t--) {
            const int64_t of_time = t * c->groups + group;
            const real *before = t ? c->calcium + (of_time - c->groups) * a.scales : c->c0 + first;
            const real z = summed(&a, before), m = softsign(z), g = 1 + a.strength * m, width = 1 + (z < 0 ? -z : z);
            real of_activity = 0, of_g = 0;
            for (int64_t k = 0; k < a.scales; k++) {
                if (c->grad_calcium) gc[k] += c->grad_calcium[of_time * a.scales + k];
                c->grad_decay[first + k] += gc[k] * (before[k] - c->activity[of_time]);
                of_activity += (1 - a.decay[k]) * gc[k];
            }
            if (c->grad_sensed) c->grad_sensed[of_time] = rest * of_activity;
            for (int64_t i = 0; i < a.n; i += STRIP)
                of_g += strip_back(c, &a, t * c->lif.neurons + a.at, i, smaller(STRIP, a.n - i), g,
                                   own * of_activity * each_spike);
            c->grad_strength[group] += of_g * m;
            const real of_z = of_g * a.strength / (width * width);
            c->grad_bias[group] += of_z;
            for (int64_t k = 0; k < a.scales; k++) {
                c->grad_weight[first + k] += of_z * before[k];
                gc[k] = a.decay[k] * gc[k] + of_z * a.weight[k];
            }
        }
        if (c->lif.grad_beta && c->lif.v0)
            for (int64_t i = a.at; i < a.at + a.n; i++) c->lif.grad_beta[i] += c->next[i] * c->lif.v0[i];
    }
}

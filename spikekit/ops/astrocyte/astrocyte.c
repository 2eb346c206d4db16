/* The LIF modulated by astrocytes over a whole sequence; the equations are in reference.py and sequence.py.

   The spikes of a domain feed back on it at the next step, so its neurons, which lie side by side, go through the
   sequence together. Small domains are taken in teams, up to a strip of neurons, of neighbouring domains and samples: a
   loop over 64 neurons takes twice as long for each as one over 512. A domain larger than a strip goes strip by strip
   within a step. The step of the neurons themselves is the LIF's own. */
#include "native/lif.h"

enum acts_on { GAIN, THRESHOLD, PLASTICITY };

/* A group is a domain of one sample. Sequences are [steps, groups, n], calcium [steps, groups, scales], sensed and
   activity [steps, groups]; parameters of astrocytes [domains, scales] or [domains], their gradients for each group.
   Absent ones are NULL. The order of the fields is that of spikekit/ops/astrocyte/cpu.py. With THRESHOLD, each is 1.
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

/* Groups first to first + size - 1, of n neurons each, the first of which is `at`. If there are several, they fit a
   strip. g: how each is modulated at this step. */
typedef struct {
    int64_t first, size, at, n;
    int64_t domain[STRIP];
    real g[STRIP], level[STRIP];
    lif_call strip;
} team;

static int64_t team_size(const astrocyte_call *c) {
    const int64_t n = c->lif.neurons / c->groups, most = n < STRIP ? STRIP / n : 1;
    return smaller(most, (c->groups + c->lif.threads - 1) / c->lif.threads);
}

static void gather(const astrocyte_call *c, int64_t first, int64_t size, team *a) {
    a->first = first;
    a->size = smaller(size, c->groups - first);
    a->n = c->lif.neurons / c->groups;
    a->at = first * a->n;
    a->strip = c->lif;
    for (int64_t q = 0; q < a->size; q++) a->domain[q] = (first + q) % c->domains;
}

static real softsign(real z) { return z / (1 + (z < 0 ? -z : z)); }

static real weighed(const astrocyte_call *c, int64_t domain, const real *calcium) {
    const real *weight = c->weight + domain * c->scales;
    real z = c->bias[domain];
    for (int64_t k = 0; k < c->scales; k++) z = z + weight[k] * calcium[k];
    return z;
}

/* calcium: that of the team before the step. */
static void modulate(const astrocyte_call *c, team *a, const real *calcium) {
    for (int64_t q = 0; q < a->size; q++)
        a->g[q] = 1 + c->strength[a->domain[q]] * softsign(weighed(c, a->domain[q], calcium + q * c->scales));
}

/* Where the neurons of group q end in a strip of m. */
static int64_t end_of(const team *a, int64_t q, int64_t m) { return a->size > 1 ? (q + 1) * a->n : m; }

/* Point the call of the LIF at the m neurons from `i` of the team on. */
static void focus(const astrocyte_call *c, team *a, int64_t i, int64_t m) {
    const int64_t at = (a->at + i) * c->lif.each;
    const real *threshold = c->lif.threshold + at;
    a->strip.beta = c->lif.beta + at;
    a->strip.quantum = c->lif.quantum + at;
    a->strip.threshold = threshold;
    if (c->acts_on != THRESHOLD) return;
    for (int64_t q = 0, j = 0; q < a->size; q++) {
        const real factor = 2 - a->g[q];
        for (const int64_t end = end_of(a, q, m); j < end; j++) a->level[j] = threshold[j] * factor;
    }
    a->strip.threshold = a->level;
}

/* One step of the m neurons from i on, at `row` of the sequences; adds their spikes up by groups. */
static void strip_step(const astrocyte_call *c, team *a, int64_t row, int64_t i, int64_t m, int32_t *spikes) {
    const lif_call *l = &c->lif;
    const real *x = l->x + row + i;
    real modulated[STRIP], *s = l->spikes + row + i;
    if (c->acts_on == GAIN) {
        for (int64_t q = 0, j = 0; q < a->size; q++) {
            const real g = a->g[q];
            for (const int64_t end = end_of(a, q, m); j < end; j++) modulated[j] = g * x[j];
        }
        x = modulated;
    }
    focus(c, a, i, m);
    fire(&a->strip, 0, x, l->v + a->at + i, l->membranes ? l->membranes + row + i : NULL, s, m);
    for (int64_t q = 0, j = 0; q < a->size; q++) {
        int32_t found = 0;
        for (const int64_t end = end_of(a, q, m); j < end; j++) found += s[j] != 0;
        spikes[q] += found;
    }
}

void astrocyte_forward(const astrocyte_call *c) {
    const real own = (real)c->own, rest = 1 - own, each_spike = (real)c->each_spike;
    const int64_t size = team_size(c), scales = c->scales;
    #pragma omp parallel for schedule(static) num_threads(c->lif.threads) if (c->lif.threads > 1)
    for (int64_t first = 0; first < c->groups; first += size) {
        team a;
        gather(c, first, size, &a);
        const int64_t n = a.size * a.n;
        real *calcium = c->c + first * scales;
        copy_or_zero(calcium, c->c0 ? c->c0 + first * scales : NULL, a.size * scales);
        copy_or_zero(c->lif.v + a.at, c->lif.v0 ? c->lif.v0 + a.at : NULL, n);
        for (int64_t t = 0; t < c->lif.steps; t++) {
            int32_t spikes[STRIP];
            memset(spikes, 0, a.size * sizeof(int32_t));
            modulate(c, &a, calcium);
            for (int64_t i = 0; i < n; i += STRIP)
                strip_step(c, &a, t * c->lif.neurons + a.at, i, smaller(STRIP, n - i), spikes);
            for (int64_t q = 0; q < a.size; q++) {
                const int64_t of_time = t * c->groups + first + q;
                const real *decay = c->decay + a.domain[q] * scales;
                real activity = (real)spikes[q] * each_spike;
                if (c->sensed) activity = own > 0 ? own * activity + rest * c->sensed[of_time] : c->sensed[of_time];
                for (int64_t k = 0; k < scales; k++)
                    calcium[q * scales + k] = decay[k] * calcium[q * scales + k] + (1 - decay[k]) * activity;
                if (c->activity) c->activity[of_time] = activity;
            }
            if (c->calcium)
                memcpy(c->calcium + (t * c->groups + first) * scales, calcium, a.size * scales * sizeof(real));
        }
    }
}

/* What the drive's gradient becomes on its way out, gx = g·dL/du; returns Σ dL/du·x. */
static real through_gain(real *restrict gx, const real *restrict x, real g, int64_t n) {
    real sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) {
        sum += gx[j] * x[j];
        gx[j] = g * gx[j];
    }
    return sum;
}

/* moved: dL/dθ of the step; returns Σ -dL/dθ·threshold, and adds up what the thresholds learn. */
static real through_thresholds(const real *restrict moved, const real *restrict threshold, real *restrict total, real g,
                               int64_t n) {
    const real factor = 2 - g;
    real sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) {
        sum -= moved[j] * threshold[j];
        total[j] += factor * moved[j];
    }
    return sum;
}

/* One step back for the m neurons from i on, at `row` of the sequences. from_spikes: what a spike of each group is worth
   to its calcium. of_g: dL/dg, added up by groups. */
static void strip_back(const astrocyte_call *c, team *a, int64_t row, int64_t i, int64_t m, const real *from_spikes,
                       real *of_g) {
    const lif_call *l = &c->lif;
    const int64_t at = a->at + i;
    const real *gs = l->grad_spikes + row + i;
    real upstream[STRIP], moved[STRIP], *gx = l->grad_x + row + i, *next = NULL;
    if (c->own > 0) {
        for (int64_t q = 0, j = 0; q < a->size; q++) {
            const real worth = from_spikes[q];
            for (const int64_t end = end_of(a, q, m); j < end; j++) upstream[j] = gs[j] + worth;
        }
        gs = upstream;
    }
    focus(c, a, i, m);
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
    for (int64_t q = 0, j = 0; q < a->size; q++) {
        const int64_t end = end_of(a, q, m), count = end - j;
        const real g = a->g[q];
        if (c->acts_on == GAIN) of_g[q] += through_gain(gx + j, l->x + row + i + j, g, count);
        else if (c->acts_on == THRESHOLD)
            of_g[q] += through_thresholds(moved + j, l->threshold + at + j, l->grad_threshold + at + j, g, count);
        else
            for (int64_t p = j; p < end; p++) gx[p] = g * gx[p];
        j = end;
    }
}

/* The calcium of group q at step t, on its way back to t - 1: gc from dL/dc[t], without what acts through g, to that and
   dL/da, which is returned. */
static real calcium_back(const astrocyte_call *c, const team *a, int64_t q, int64_t t, const real *before) {
    const int64_t group = a->first + q, of_time = t * c->groups + group, first = group * c->scales;
    const real *decay = c->decay + a->domain[q] * c->scales, activity = c->activity[of_time];
    real *gc = c->grad_c + first, of_activity = 0;
    for (int64_t k = 0; k < c->scales; k++) {
        if (c->grad_calcium) gc[k] += c->grad_calcium[of_time * c->scales + k];
        c->grad_decay[first + k] += gc[k] * (before[k] - activity);
        of_activity += (1 - decay[k]) * gc[k];
        gc[k] = decay[k] * gc[k];
    }
    if (c->grad_sensed) c->grad_sensed[of_time] = (1 - (real)c->own) * of_activity;
    return of_activity;
}

/* And what acts through g, given dL/dg. */
static void modulation_back(const astrocyte_call *c, const team *a, int64_t q, const real *before, real of_g) {
    const int64_t group = a->first + q, first = group * c->scales, domain = a->domain[q];
    const real z = weighed(c, domain, before), width = 1 + (z < 0 ? -z : z);
    const real of_z = of_g * c->strength[domain] / (width * width), *weight = c->weight + domain * c->scales;
    c->grad_strength[group] += of_g * (z / width);
    c->grad_bias[group] += of_z;
    for (int64_t k = 0; k < c->scales; k++) {
        c->grad_weight[first + k] += of_z * before[k];
        c->grad_c[first + k] += of_z * weight[k];
    }
}

/* grad_beta, grad_threshold and grad_quantum are there together or not at all, and always with THRESHOLD. */
void astrocyte_backward(const astrocyte_call *c) {
    const real worth = (real)c->own * (real)c->each_spike;
    const int64_t size = team_size(c), scales = c->scales;
    #pragma omp parallel for schedule(static) num_threads(c->lif.threads) if (c->lif.threads > 1)
    for (int64_t first = 0; first < c->groups; first += size) {
        team a;
        gather(c, first, size, &a);
        const int64_t n = a.size * a.n;
        for (int64_t t = c->lif.steps - 1; t >= 0; t--) {
            const real *before = t ? c->calcium + ((t - 1) * c->groups + first) * scales : c->c0 + first * scales;
            real from_spikes[STRIP], of_g[STRIP];
            modulate(c, &a, before);
            for (int64_t q = 0; q < a.size; q++) {
                from_spikes[q] = worth * calcium_back(c, &a, q, t, before + q * scales);
                of_g[q] = 0;
            }
            for (int64_t i = 0; i < n; i += STRIP)
                strip_back(c, &a, t * c->lif.neurons + a.at, i, smaller(STRIP, n - i), from_spikes, of_g);
            if (c->acts_on == PLASTICITY) continue;
            for (int64_t q = 0; q < a.size; q++) modulation_back(c, &a, q, before + q * scales, of_g[q]);
        }
        if (c->lif.grad_beta && c->lif.v0)
            for (int64_t i = a.at; i < a.at + n; i++) c->lif.grad_beta[i] += c->next[i] * c->lif.v0[i];
    }
}

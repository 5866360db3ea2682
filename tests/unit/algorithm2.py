"""Algorithms 1 and 2 and equations 2 and 4, transcribed straight from the paper in float64. No test lives here.

Models are linear (logits = x W + b) and train by SGD with momentum, so a gradient is one line. It shares nothing with
the package but the random streams (or the two could not see the same batches) and the batch size.
"""

from __future__ import annotations

import numpy as np

from fedagg_edge.seeds import stream


def log_softmax(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def loss_nl(student, teacher, y, hp):
    """Eq. 2 and its gradient by the student's logits: mean [CE + beta * KL_term]."""
    n, tau_s = len(y), np.exp(log_softmax(student))
    t_student = hp.temperature if hp.temperature_on == "both" else 1.0
    scale = hp.beta * (hp.temperature**2 if hp.temperature_on == "both" else 1.0)
    log_p, log_q = log_softmax(student / t_student), log_softmax(teacher / hp.temperature)
    p, q = np.exp(log_p), np.exp(log_q)
    ce, kl_rows = -log_softmax(student)[np.arange(n), y], None
    if hp.kl == "teacher||student":
        kl_rows, d_kl = (q * (log_q - log_p)).sum(1), (p - q) / t_student
    else:
        kl_rows = (p * (log_p - log_q)).sum(1)
        d_kl = p * (log_p - log_q - kl_rows[:, None]) / t_student
    gradient = (tau_s - np.eye(tau_s.shape[1])[y] + scale * d_kl) / n
    return float((ce + scale * kl_rows).mean()), gradient


class Linear:
    """A linear model with its optimizer, float64."""

    def __init__(self, weight, bias):
        self.w, self.b = weight.astype(float), bias.astype(float)
        self.vw, self.vb = np.zeros_like(self.w), np.zeros_like(self.b)

    def f(self, x):
        return x.reshape(len(x), -1).astype(float) @ self.w + self.b

    def update(self, parts, hp):
        """One step of SGD with momentum; `parts` are (x, dLoss/dlogits)."""
        gw = sum(x.reshape(len(x), -1).astype(float).T @ g for x, g in parts)
        gb = sum(g.sum(axis=0) for _, g in parts)
        self.vw, self.vb = hp.momentum * self.vw + gw, hp.momentum * self.vb + gb
        self.w -= hp.learning_rate * self.vw
        self.b -= hp.learning_rate * self.vb


class Transcription:
    """A tree of linear models and the two algorithms on it.

    `parent` and `children` by node; `leaf_data` node -> (X, y, dec(enc(X))); leaves below a node are listed in
    canonical order.
    """

    def __init__(self, tree, models, leaf_data, hp, seed):
        self.tree, self.models, self.leaf_data, self.hp, self.seed = tree, models, leaf_data, hp, seed

    def leaves(self, v):
        children = self.tree.places[v].children
        return [v] if not children else sorted(x for c in children for x in self.leaves(c))

    def bridge(self, v):
        """dec(e) and y of the leaves below v: what v shares with its parent."""
        leaves = self.leaves(v)
        x = np.concatenate([self.leaf_data[k][2] for k in leaves])
        return x, np.concatenate([self.leaf_data[k][1] for k in leaves])

    def train(self, student, lessons, number, phase):
        """Train on several pairs' bridge samples, shuffled together."""
        x = np.concatenate([b for b, _, _ in lessons])
        y = np.concatenate([b for _, b, _ in lessons])
        teacher = np.concatenate([b for _, _, b in lessons])
        rng = stream(self.seed, "train", student, number, phase)
        rng.integers(2**63)
        order = rng.permutation(len(y))
        model, size = self.models[student], self.hp.batch_size
        cuts = list(range(size, len(y), size))
        if cuts and 1 < len(y) - cuts[-1] < min(4, size):  # decisions/0003: the last two batches as even as can be
            cuts[-1] -= (size - (len(y) - cuts[-1])) // 2
        for rows in np.split(order, cuts):
            _, g = loss_nl(model.f(x[rows]), teacher[rows], y[rows], self.hp)
            if student in self.leaf_data:  # eq. 4: mean CE on private samples + gamma * L_nl
                private = self.leaf_data[student][0][rows]
                g_private = (np.exp(log_softmax(model.f(private))) - np.eye(g.shape[1])[y[rows]]) / len(rows)
                model.update([(private, g_private), (x[rows], self.hp.gamma * g)], self.hp)
            else:
                model.update([(x[rows], g)], self.hp)

    def directional(self, student, teacher, child, parent, number):
        """Algorithm 1: one direction of BSBODP on the pair (child, parent)."""
        x, y = self.bridge(child)
        z = self.models[teacher].f(x)
        self.train(student, [(x, y, z)], number, f"{child}->{parent}")

    def bsbodp(self, v, number):
        parent = self.tree.places[v].parent
        self.directional(v, parent, v, parent, number)
        self.directional(parent, v, v, parent, number)

    def round(self, v, number):
        """Algorithm 2: round(v)."""
        for u in self.tree.places[v].children:
            self.round(u, number)
        if self.tree.places[v].parent is not None:
            self.bsbodp(v, number)

    def round_snapshot(self, v, number, taught=None):
        """The snapshot schedule: siblings independent, the parent trains on all of them together afterwards."""
        children = self.tree.places[v].children
        published = {u: self.models[v].f(self.bridge(u)[0]) for u in children}
        lessons = [(*self.bridge(u), self.round_snapshot(u, number, published[u])) for u in children]
        if lessons:
            self.train(v, lessons, number, "children")
        if taught is None:
            return None
        x, y = self.bridge(v)
        self.train(v, [(x, y, taught)], number, f"{v}->{self.tree.places[v].parent}")
        return self.models[v].f(x)

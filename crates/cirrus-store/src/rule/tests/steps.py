"""Writes steps.json: what PyTorch's optimisers make of gradients, step by step, in double precision.

FTRL-proximal is not in PyTorch: it is Algorithm 1 of McMahan and others (2013), line by line. The
first norm is not either: after PyTorch's step the value moves towards zero by its rate times l1.

    python3 steps.py > steps.json        # PyTorch 1.13
"""

import json
import math
import random

import torch

STEPS = 40
COORDINATES = 6


def gradients(seed):
    """Of one size and of very different ones, some zero."""
    draw = random.Random(seed)
    sizes = [1.0, 1e-3, 30.0, 1.0, 0.2, 1.0]
    return [
        [0.0 if draw.random() < 0.2 else float(f"{draw.gauss(0.3, 1.0) * size:.6g}") for size in sizes]
        for _ in range(STEPS)
    ]


def shrunk(value, shift):
    return math.copysign(max(abs(value) - shift, 0.0), value)


def with_torch(make, l1, rate_of):
    parameters = torch.zeros(COORDINATES, dtype=torch.float64, requires_grad=True)
    optimizer = make([parameters])
    values = []
    for gradient in gradients(7):
        parameters.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        if l1:
            with torch.no_grad():
                for place in range(COORDINATES):
                    own = rate_of(optimizer.state[parameters], place)
                    parameters[place] = shrunk(parameters[place].item(), own * l1)
        values.append(parameters.detach().tolist())
    return values


def adagrad_rate(rate):
    def of(state, place):
        squares = state["sum"][place].item()
        return rate / (math.sqrt(squares) + 1e-10) if squares else 0.0

    return of


def adam_rate(rate):
    def of(state, place):
        corrected = state["exp_avg_sq"][place].item() / (1 - 0.999 ** state["step"].item())
        return rate / (math.sqrt(corrected) + 1e-8) if corrected else 0.0

    return of


def ftrl(alpha, beta, l1, l2):
    z, n, w = [0.0] * COORDINATES, [0.0] * COORDINATES, [0.0] * COORDINATES
    values = []
    for gradient in gradients(7):
        for i, g in enumerate(gradient):
            sigma = (math.sqrt(n[i] + g * g) - math.sqrt(n[i])) / alpha
            z[i] += g - sigma * w[i]
            n[i] += g * g
            if abs(z[i]) <= l1:
                w[i] = 0.0
            else:
                sign = math.copysign(1.0, z[i])
                w[i] = -(z[i] - sign * l1) / ((beta + math.sqrt(n[i])) / alpha + l2)
        values.append(list(w))
    return values


def main():
    cases = []

    def case(rule, rate, l1, l2, values):
        values = [[float(f"{value:.9g}") for value in step] for step in values]
        cases.append({"rule": rule, "rate": rate, "l1": l1, "l2": l2, "values": values})

    for l1, l2 in [(0.0, 0.0), (0.0, 0.05), (0.02, 0.05)]:
        plain = lambda state, place: 0.03
        sgd = lambda it, **more: torch.optim.SGD(it, lr=0.03, weight_decay=l2, **more)
        case("sgd", 0.03, l1, l2, with_torch(sgd, l1, plain))
        make = lambda it: sgd(it, momentum=0.9)
        case("momentum", 0.03, l1, l2, with_torch(make, l1, plain))
        make = lambda it: sgd(it, momentum=0.9, nesterov=True)
        case("nesterov", 0.03, l1, l2, with_torch(make, l1, plain))
        make = lambda it: torch.optim.Adagrad(it, lr=0.1, weight_decay=l2)
        case("adagrad", 0.1, l1, l2, with_torch(make, l1, adagrad_rate(0.1)))
        make = lambda it: torch.optim.Adam(it, lr=0.05, weight_decay=l2)
        case("adam", 0.05, l1, l2, with_torch(make, l1, adam_rate(0.05)))
        case("ftrl", 0.1, l1, l2, ftrl(0.1, 1.0, l1 * 50, l2))
        cases[-1]["l1"] = l1 * 50
    print('{"gradients": %s, "cases": [' % json.dumps(gradients(7)))
    print(",\n".join(json.dumps(case) for case in cases))
    print("]}")


main()

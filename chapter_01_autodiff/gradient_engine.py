"""The tour: one expression, its gradient by four methods, and the graph behind it.

python chapter_01_autodiff/gradient_engine.py --at 2 -3 10
"""

from __future__ import annotations

import math

import numpy as np

from chapter_01_autodiff import (
    Scalar,
    Tensor,
    difference_errors,
    directional_derivative,
    draw_graph,
    grad,
    hessian,
    hessian_vector_product,
    numerical_gradient,
    plot_difference_errors,
    to_dot,
)
from utils.commandline import number, parse, parser, script, write_metrics
from utils.files import atomic_write
from utils.plotting import save_figure


def f(a, b, c):
    return (a * b + c) * (a + b * c)


def four_gradients(point: list[float]) -> dict[str, list[float]]:
    """The gradient of f at `point`, by every method of this chapter."""
    scalars = [Scalar(x) for x in point]
    f(*scalars).backward()
    tensors = [Tensor(x, requires_grad=True, dtype=np.float64) for x in point]
    axes = np.eye(3)
    return {
        "differences": numerical_gradient(lambda x: f(*x), point).tolist(),
        "forward mode": [directional_derivative(f, point, axis)[1] for axis in axes],
        "Scalar": [x.grad for x in scalars],
        "Tensor": [g.item() for g in grad(f(*tensors), tensors)],
    }


def print_gradients(gradients: dict[str, list[float]]) -> None:
    print(f"  {'':14}" + "".join(f"{'df/d' + name:>14}" for name in "abc"))
    for method, values in gradients.items():
        print(f"  {method:14}" + "".join(f"{value:14.6f}" for value in values))


def print_edges(inputs: dict[str, Scalar], output: Scalar) -> None:
    """The chain rule at one input: the products over all edges that leave it."""
    a, b, _ = inputs.values()
    u, v = output.left, output.right
    print(f"  f = u * v, where u = a*b + c = {u.data:g} and v = a + b*c = {v.data:g}")
    print("  df/da = df/du * du/da + df/dv * dv/da")
    print(f"        = {u.grad:g} * {b.data:g} + {v.grad:g} * 1 = {a.grad:g}")


def best_steps(quick: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The error of differences of sin at 1, over steps from 0.1 to 1e-15."""
    steps = np.logspace(-1, -15, 29 if quick else 141)
    return steps, difference_errors(math.sin, math.cos(1.0), 1.0, steps)


@script
def main(argv=None) -> None:
    flags = parser("gradient_engine", "The tour of chapter 1: gradients of (a*b + c) * (a + b*c).")
    flags.add_argument(
        "--at", type=number(), nargs=3, default=[2.0, -3.0, 10.0], metavar=("A", "B", "C"),
        help="where to differentiate",
    )  # fmt: skip
    args = parse(flags, argv)
    a, b, c = args.at

    inputs = {name: Scalar(value) for name, value in zip("abc", args.at)}
    output = f(*inputs.values())
    output.backward()
    print(f"f = (a*b + c) * (a + b*c) at a = {a:g}, b = {b:g}, c = {c:g} is {output.data:g}\n")
    print("Its gradient, four ways:")
    gradients = four_gradients(args.at)
    print_gradients(gradients)
    print("\nThe chain rule at a, which reaches f along two edges:")
    print_edges(inputs, output)

    steps, errors = best_steps(args.quick)
    print("\nDifferences are never exact: the derivative of sin at 1, the best of all steps:")
    best = {name: (float(steps[e.argmin()]), float(e.min())) for name, e in errors.items()}
    for name, (step, error) in best.items():
        print(f"  {name:8} h = {step:.0e}, error {error:.0e}")

    direction = [1.0, 0.0, 0.0]
    _, product = hessian_vector_product(f, args.at, direction)
    matrix = hessian(lambda x: f(x[0], x[1], x[2]), np.array(args.at))
    print("\nSecond derivatives, d²f/da·d(a, b, c):")
    print("  forward over reverse " + "".join(f"{value:12.4f}" for value in product))
    print("  a row of the Hessian " + "".join(f"{value:12.4f}" for value in matrix[0]))

    names = {**inputs, "u": output.left, "v": output.right, "f": output}
    save_figure(draw_graph(output, names), args.out / "computation_graph.png")
    save_figure(plot_difference_errors(steps, errors), args.out / "difference_errors.png")
    with atomic_write(args.out / "computation_graph.dot") as file:
        file.write(to_dot(output, names).encode())
    write_metrics(
        args.out,
        {
            "value": output.data,
            "gradients": gradients,
            "best_steps": {name: {"h": h, "error": error} for name, (h, error) in best.items()},
            "hessian": matrix.tolist(),
        },
    )
    print(f"\nThe graph, drawn, and the differences' error curve are in {args.out}/")


if __name__ == "__main__":
    main()

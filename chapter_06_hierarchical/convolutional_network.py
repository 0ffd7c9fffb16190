"""Networks that see: LeNet-5, a residual and a depthwise-separable net, and what they look at.

python chapter_06_hierarchical/convolutional_network.py
python chapter_06_hierarchical/convolutional_network.py --data t10k-images-idx3-ubyte.gz
"""

from __future__ import annotations

import numpy as np

from chapter_03_neural_nets import (
    Batches,
    Module,
    confusion_matrix,
    count_parameters,
    evaluate,
    plot_confusion_matrix,
    plot_images,
    predict,
    rise_and_fall,
    train,
)
from chapter_05_gradient_mastery import AdamW, cross_entropy
from chapter_06_hierarchical import (
    LeNet5,
    ResNet,
    SeparableNet,
    plot_feature_maps,
    plot_saliency,
    plot_validation,
    random_affine,
    saliency,
)
from utils import manual_seed, no_grad
from utils.commandline import beginning, number, parse, parser, script, whole_number, write_metrics
from utils.data import GLYPHS, known_names, load_images, split_images
from utils.plotting import save_figure

# A name, how it is made from the number of classes, whether its pictures are bent, and how often
# it sees all of them.
NETS = {
    "lenet": ("LeNet-5", LeNet5, False, 20),
    "lenet-bent": ("LeNet-5, bent", LeNet5, True, 40),
    "separable": ("separable net", SeparableNet, True, 20),
    "resnet": ("ResNet", lambda classes: ResNet(classes, blocks=1), True, 20),
}
BUILT_IN = {"nets": ["lenet", "resnet"], "epochs": 3}  # under two minutes


def arguments(argv):
    flags = parser("convolutional_network", "Convolutional networks on small pictures.")
    known = ", ".join(known_names("images"))
    flags.add_argument(
        "--data", metavar="NAME|FILE", help=f"{known}, or IDX or NPZ images; else drawn glyphs"
    )
    flags.add_argument("--net", choices=NETS, nargs="+",
                       help="which networks; else all, and two on built-in pictures")  # fmt: skip
    flags.add_argument("--epochs", type=whole_number(1),
                       help="walks through the pictures; else by the network")  # fmt: skip
    flags.add_argument("--batch", type=whole_number(2), default=64, help="pictures a step")
    flags.add_argument("--lr", type=number(above=0), default=3e-3, help="the highest learning rate")
    flags.add_argument("--weight-decay", type=number(least=0), default=0.05, help="of AdamW")
    flags.add_argument(
        "--smoothing", type=number(least=0, most=1), default=0.1, help="label smoothing"
    )
    return parse(flags, argv)


def fit(net: Module, bent: bool, args, data, test, steps: int, description: str):
    """Train with AdamW, on pictures that are turned, stretched and shifted if `bent`."""

    def loss(net, images, labels):
        images = random_affine(images) if bent else images
        return cross_entropy(net(images), labels, label_smoothing=args.smoothing)

    lr = rise_and_fall(args.lr, steps)
    return train(
        net,
        AdamW(net.parameters(), lr, weight_decay=args.weight_decay),
        Batches(*data, batch_size=args.batch, drop_last=True),
        steps,
        loss=loss,
        evaluate=lambda net: evaluate(net, *test),
        evaluate_every=max(steps // 10, 1),
        description=description,
    )


def draw_layers(net: LeNet5, image: np.ndarray, out) -> None:
    """The kernels of the first layer, and what both convolutions find in a picture."""
    kernels = net.features[0].weight.data[:, 0]
    save_figure(plot_images(kernels, columns=len(kernels)), out / "filters.png")
    maps: dict[str, np.ndarray] = {}
    with no_grad():
        x = image[None, None]
        for i, layer in enumerate(net.features):
            x = layer(x)
            if i in (1, 4):
                maps[f"convolution {1 + i // 3}"] = x.data[0]
    save_figure(plot_feature_maps(image, maps), out / "feature_maps.png")


def draw_decisions(net: Module, data, labels, out, right: bool) -> None:
    """Which pixels decided, for eight right answers, or for eight wrong ones if there are some."""
    guesses = predict(net, data.images).argmax(axis=1)
    chosen = np.flatnonzero((guesses == data.labels) == right)[:8]
    if len(chosen) == 0:
        return
    titles = [labels[guesses[i]] for i in chosen]
    if not right:
        titles = [f"{t}, is {labels[data.labels[i]]}" for t, i in zip(titles, chosen)]
    gradients = saliency(net, data.images[chosen], guesses[chosen])
    save_figure(plot_saliency(data.images[chosen], gradients, titles), out)


@script
def main(argv=None) -> None:
    args = arguments(argv)
    images = beginning(args, load_images(args.data))
    labels = list(GLYPHS) if args.data is None else [str(i) for i in range(images.labels.max() + 1)]
    data, test = split_images(images)
    args.batch = min(args.batch, len(data.images))
    nets = args.net or (BUILT_IN["nets"] if args.data is None else list(NETS))
    print(f"{len(data.images)} pictures to learn from, {len(test.images)} to be judged on, "
          f"{args.batch} a step\n")  # fmt: skip
    print(
        f"  {'':15}{'parameters':>11}{'steps':>7}{'learnt from':>13}{'test loss':>11}{'right':>9}"
    )
    metrics, histories = {"best_test_accuracy": 0.0}, {}
    for key in nets:
        name, make, bent, epochs = NETS[key]
        epochs = args.epochs or (BUILT_IN["epochs"] if args.data is None else epochs)
        steps = min(epochs * (len(data.images) // args.batch), 4 if args.quick else 10**9)
        manual_seed(args.seed)
        net = make(len(labels))
        histories[name] = fit(net, bent, args, data, test, steps, name)
        learnt, result = evaluate(net, *data), evaluate(net, *test)
        print(f"  {name:15}{count_parameters(net):11,}{steps:7}{learnt['accuracy']:13.2%}"
              f"{result['loss']:11.4f}{result['accuracy']:9.2%}")  # fmt: skip
        own = key.replace("-", "_")
        test_prefix = "test" if key == "lenet" else f"{own}_test"
        metrics.update({f"{test_prefix}_{k}": v for k, v in result.items()})
        metrics[f"{own}_parameters"], metrics[f"{own}_steps"] = count_parameters(net), steps
        metrics[f"{own}_train_accuracy"] = learnt["accuracy"]
        if key == "lenet":
            draw_layers(net, test.images[0], args.out)
        if key == nets[0]:
            draw_decisions(net, test, labels, args.out / "saliency.png", right=True)
        if result["accuracy"] >= metrics["best_test_accuracy"]:
            metrics["best_test_accuracy"], best, best_name = result["accuracy"], net, name
    draw_decisions(best, test, labels, args.out / "mistakes.png", right=False)
    guesses = predict(best, test.images).argmax(axis=1)
    counts = confusion_matrix(guesses, test.labels, len(labels))
    save_figure(plot_confusion_matrix(counts, labels), args.out / "confusion.png")
    save_figure(plot_validation(histories, "Pictures"), args.out / "validation.png")
    write_metrics(args.out, metrics)
    layers = "The kernels and feature maps of LeNet-5, and the" if "lenet" in nets else "The"
    print(f"\n{layers} decisions of the best, {best_name}, are drawn in {args.out}/")


if __name__ == "__main__":
    main()

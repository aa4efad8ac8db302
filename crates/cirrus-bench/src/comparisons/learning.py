"""Trains other systems on the files that ours is trained on.

`write FOLDER` makes rows of 39 categories, as libsvm's and Vowpal Wabbit's files; `ratings FOLDER` makes ratings.
`vw`, `sgd` and `surprise` train on them, and print one line of JSON: processor seconds from the file to the
model, and the held-out loss.
"""

import json
import resource
import sys

import numpy as np

TRAIN, TEST, FIELDS, BITS = 400_000, 40_000, 39, 18


def processor():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def write(folder):
    random = np.random.default_rng(1)
    rows = TRAIN + TEST
    columns, score = [], np.full(rows, -1.6)
    for field in range(FIELDS):
        values = 2 << (field // 2)
        weights = random.normal(size=values) * 0.35
        token = np.minimum((values ** random.random(rows) - 1).astype(np.int64), values - 1)
        score += weights[token]
        columns.append((token * 2654435761 + field * 3928891) % (1 << BITS))
    labels = (random.random(rows) < 1 / (1 + np.exp(-score))).astype(int)
    features = np.stack(columns, 1)
    for name, first, end in [("train", 0, TRAIN), ("test", TRAIN, rows)]:
        with open(f"{folder}/{name}.svm", "w") as svm, open(f"{folder}/{name}.vw", "w") as vw:
            for label, row in zip(labels[first:end], features[first:end]):
                row = np.unique(row)
                svm.write(f"{label} " + " ".join(f"{index}:1" for index in row) + "\n")
                vw.write(f"{1 if label else -1} | " + " ".join(map(str, row)) + "\n")


def ratings(folder):
    random = np.random.default_rng(1)
    users, items, count = 2_000, 1_000, 400_000
    of_user, of_item = random.normal(size=(users, 9)) * 0.4, random.normal(size=(items, 9)) * 0.4
    user = random.integers(users, size=count)
    item = np.minimum((items ** random.random(count)).astype(int), items - 1)
    rating = 3.5 + of_user[user, 0] + of_item[item, 0] + (of_user[user, 1:] * of_item[item, 1:]).sum(1)
    rating = np.clip(rating + random.normal(size=count) * 0.5, 1, 5)
    for name, part in [("train", slice(0, count * 9 // 10)), ("test", slice(count * 9 // 10, count))]:
        with open(f"{folder}/{name}.inter", "w") as file:
            for row in zip(user[part], item[part], rating[part]):
                file.write("%d\t%d\t%.2f\n" % row)


def vw(folder):
    import vowpalwabbit
    from sklearn.metrics import log_loss

    began = processor()
    options = f"-d {folder}/train.vw -b {BITS} --loss_function logistic --link logistic --holdout_off --quiet"
    model = vowpalwabbit.Workspace(f"{options} -f {folder}/model.vw")
    model.finish()
    took = processor() - began
    model = vowpalwabbit.Workspace(f"-i {folder}/model.vw -t --link logistic --quiet")
    rows = list(open(f"{folder}/test.vw"))
    return took, log_loss([row[0] != "-" for row in rows], [model.predict(row) for row in rows])


def sgd(folder):
    from sklearn.datasets import load_svmlight_file
    from sklearn.linear_model import SGDClassifier
    from sklearn.metrics import log_loss

    def load(name):
        rows, labels = load_svmlight_file(f"{folder}/{name}.svm", n_features=1 << BITS, zero_based=True)
        rows.indices, rows.indptr = rows.indices.astype(np.int32), rows.indptr.astype(np.int32)
        return rows, labels

    began = processor()
    rows, labels = load("train")
    model = SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=20, tol=None, average=True)
    model.fit(rows, labels)
    took = processor() - began
    rows, labels = load("test")
    return took, log_loss(labels, model.predict_proba(rows)[:, 1])


def surprise(folder):
    from surprise import SVD, Dataset, Reader, accuracy

    def load(name):
        reader = Reader(line_format="user item rating", sep="\t", rating_scale=(1, 5))
        return Dataset.load_from_file(f"{folder}/{name}.inter", reader).build_full_trainset()

    began = processor()
    model = SVD(n_factors=16, n_epochs=15, lr_all=0.01, reg_all=0.05, random_state=1)
    model.fit(load("train"))
    took = processor() - began
    return took, accuracy.rmse(model.test(load("test").build_testset()), verbose=False)


what, folder = sys.argv[1:]
result = {"write": write, "ratings": ratings, "vw": vw, "sgd": sgd, "surprise": surprise}[what](folder)
if result:
    print(json.dumps({"cpu": result[0], "loss": result[1]}))

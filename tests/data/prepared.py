"""Writes prepared TFDS sets without TensorFlow."""

import io
import json

import numpy as np
from PIL import Image

PACKAGE = "tensorflow_datasets.core.features"


def make_images(seed, count, size=32):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def records_of(images, **labels):
    return [
        {"image": image, **{key: int(values[i]) for key, values in labels.items()}} for i, image in enumerate(images)
    ]


def write_tfds(folder, name, examples, classes, *, version="1.0.0", file_format="array_record"):
    """Writes a prepared TFDS set and returns the folder of its version.

    `examples` is {split: [{"image": uint8 array or encoded bytes, "label": int, ...}]}. The array_record files hold
    serialized tf.train.Example messages with PNG images, as TFDS writes them; `classes` is {label key: class names or
    their number}.
    """
    from array_record.python import array_record_module
    from tensorflow_datasets.proto import tf_example_pb2

    folder = folder / name / version
    folder.mkdir(parents=True)
    short = name.split("/")[0]
    features = {
        "image": {
            "pythonClassName": f"{PACKAGE}.image_feature.Image",
            "image": {"dtype": "uint8", "encodingFormat": "png", "shape": {"dimensions": ["-1", "-1", "3"]}},
        }
    }
    for key, names in classes.items():
        number = names if isinstance(names, int) else len(names)
        features[key] = {
            "pythonClassName": f"{PACKAGE}.class_label_feature.ClassLabel",
            "classLabel": {"numClasses": str(number)},
        }
        if not isinstance(names, int):
            (folder / f"{key}.labels.txt").write_text("\n".join(names) + "\n")
    structure = {"pythonClassName": f"{PACKAGE}.features_dict.FeaturesDict", "featuresDict": {"features": features}}
    (folder / "features.json").write_text(json.dumps(structure))
    splits = []
    for split, records in examples.items():
        path = folder / f"{short}-{split}.array_record-00000-of-00001"
        writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
        for record in records:
            example = tf_example_pb2.Example()
            for key, value in record.items():
                feature = example.features.feature[key]
                if key == "image":
                    feature.bytes_list.value.append(value if isinstance(value, bytes) else png(value))
                else:
                    feature.int64_list.value.append(value)
            writer.write(example.SerializeToString())
        writer.close()
        splits.append(
            {
                "name": split,
                "numBytes": "1",
                "shardLengths": [str(len(records))],
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
        )
    info = {"name": short, "version": version, "fileFormat": file_format, "moduleName": "tests", "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder

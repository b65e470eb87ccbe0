/* options_table.c - the rows of options.h. Order: as in the help and in config.ini. */
#include "augment.h"
#include "options.h"

#define DEVICES (1u << COMMAND_DEVICES)
#define SELFTEST (1u << COMMAND_SELFTEST)
#define TRAIN_ONLY (1u << COMMAND_TRAIN)
#define PROTOCOL (1u << COMMAND_PROTOCOL)
#define TRAIN (TRAIN_ONLY | PROTOCOL) /* what a cell of a grid takes from the grid */
#define EVAL (1u << COMMAND_EVAL)
#define CALIBRATE (1u << COMMAND_CALIBRATE)
#define PREDICT (1u << COMMAND_PREDICT)
#define JACOBIAN (1u << COMMAND_JACOBIAN)
#define REPRESENT (1u << COMMAND_REPRESENT)
#define BENCH (1u << COMMAND_BENCH)
#define INSPECT (1u << COMMAND_INSPECT)
#define IMPORT (1u << COMMAND_IMPORT)
#define TUNE (1u << COMMAND_TUNE)
#define WITH_MODEL (EVAL | CALIBRATE | PREDICT | JACOBIAN | REPRESENT)
#define COMPUTE (SELFTEST | TRAIN | WITH_MODEL | BENCH | IMPORT | TUNE)
#define ALL ((1u << COMMAND_COUNT) - 1)

const struct command_row command_table[COMMAND_COUNT] = {
    {"devices", "", 0, 0, "list the OpenCL devices and what speaks against using them"},
    {"selftest", "", 0, 0, "compare every operation of a device with a reference"},
    {"train", "", 0, 0, "train a model on the known classes and evaluate it"},
    {"protocol", "", 0, 0,
     "train methods on the trials of a protocol; a table of means beside published figures"},
    {"eval", "RUN|MODEL", 1, 1, "measure how known and unknown images are told apart"},
    {"calibrate", "MODEL", 1, 1, "choose the threshold of a model from images of known classes"},
    {"predict", "MODEL IMAGE|DIR...", 2, 1 << 20, "class or \"unknown\" for each image"},
    {"jacobian", "RUN|MODEL...", 1, 1 << 10,
     "norm of the Jacobian by the image, known against unknown; several runs side by side"},
    {"represent", "RUN|MODEL IMAGE...", 2, 1 << 10,
     "what an image is to a model, class by class, beside the mean of a class; where it looked"},
    {"bench", "", 0, 0, "images per second of training and inference"},
    {"inspect", "[FILE]", 0, 1,
     "header, tensors and settings of a model file; with --png a look at training images"},
    {"import", "WEIGHTS MODEL", 2, 2, "a model file from weights that another program trained"},
    {"tune", "", 0, 0, "time the algorithms of a network's convolutions and keep the faster ones"}};

#define FIX OPTION_FIXED
#define NOW OPTION_TRANSIENT

#define AUGMENT_HELP(id, name, form, help) "; " form " (" help ")"

const struct option_row option_table[] = {
    /* grid */
    {"methods", 0, OPTION_TEXT, NULL, NULL, NULL, PROTOCOL, 0,
     "training methods by commas, as --method of osr train has them: ce,cac"},
    {"trials", 0, OPTION_TEXT, "0-4", NULL, NULL, PROTOCOL, 0, "trials of --split: 0-4 or 0,3"},
    {"seeds", 0, OPTION_TEXT, NULL, NULL, NULL, PROTOCOL, 0,
     "seeds of every trial, as 0-2; unset: that of --seed"},
    {"recipe", 0, OPTION_TEXT, NULL, NULL, NULL, TRAIN, FIX,
     "preset of a paper, weaker than all that is given: cac, vaze, difair, movr, movr-resnet18, "
     "arpl or quick; osr help recipes prints their values"},
    /* data */
    {"data", 0, OPTION_TEXT, "glyphs", NULL, NULL, TRAIN, FIX,
     "images: glyphs (drawn, no files needed), idx:DIR (MNIST files), folder:DIR (train/CLASS/*), "
     "cifar10:DIR or cifar100:DIR (binary version), svhn:DIR (*_32x32.mat), tinyimagenet:DIR "
     "(classes by sorted names; tinyimagenet:DIR,order=wnids: as in wnids.txt)"},
    {"data", 0, OPTION_TEXT, NULL, NULL, NULL, EVAL | CALIBRATE | JACOBIAN, 0,
     "images, as in osr help train; unset: those of the run"},
    {"data", 0, OPTION_TEXT, NULL, NULL, NULL, REPRESENT, 0,
     "images, as in osr help train: the training ones make the class means, and test:N for IMAGE "
     "is test image N; unset: those of the run"},
    {"data", 0, OPTION_TEXT, "glyphs", NULL, NULL, INSPECT, 0,
     "images for --png, as in osr help train"},
    {"unknown", 0, OPTION_TEXT, NULL, NULL, NULL, TRAIN, FIX,
     "other data, such as svhn:DIR: its test images are the unknown ones, instead of the classes "
     "of --data that are not known"},
    {"unknown", 0, OPTION_TEXT, NULL, NULL, NULL, EVAL | JACOBIAN, 0,
     "other data whose test images are the unknown ones; unset: as the run, or, with --data, its "
     "own classes"},
    {"known", 0, OPTION_TEXT, NULL, NULL, NULL, TRAIN, FIX,
     "known classes, numbers or names, by commas: 0,1,2,5; the others are unknown"},
    {"split", 0, OPTION_CHOICE, NULL, NULL, "neal|arpl", TRAIN, FIX,
     "published list of known classes instead of --known"},
    {"split-set", 0, OPTION_TEXT, NULL, NULL, NULL, TRAIN, FIX,
     "data set whose published list is used; unset: guessed from the data"},
    {"trial", 0, OPTION_INTEGER, "0", NULL, "[0,4]", TRAIN_ONLY, FIX, "trial of --split"},
    {"val", 0, OPTION_REAL, "0.1", NULL, "[0,0.9]", TRAIN, FIX,
     "share of each known class's training images kept for validation"},
    {"size", 0, OPTION_INTEGER, NULL, "pixels", "[8,1024]", TRAIN | INSPECT, FIX,
     "side of the images given to the network; unset: 32, for tinyimagenet 64"},
    {"size", 0, OPTION_INTEGER, "32", "pixels", "[8,1024]", BENCH | IMPORT | TUNE, 0,
     "side of the images given to the network"},
    {"channels", 0, OPTION_INTEGER, NULL, NULL, "[1,3]", TRAIN | INSPECT, FIX,
     "1 grey, 3 colour; unset: as the data"},
    {"channels", 0, OPTION_INTEGER, "3", NULL, "[1,3]", IMPORT | TUNE, 0, "1 grey, 3 colour"},
    {"mean", 0, OPTION_TEXT, NULL, NULL, NULL, IMPORT, 0,
     "what was taken from the pixels in 0..1, by channel: 0.49,0.48,0.45"},
    {"std", 0, OPTION_TEXT, NULL, NULL, NULL, IMPORT, 0,
     "what they were then divided by, by channel"},
    {"mean", 0, OPTION_TEXT, NULL, NULL, NULL, TRAIN, FIX,
     "what is taken from the pixels in 0..1, by channel: 0.49,0.48,0.45; unset: the mean of the "
     "training images of the known classes"},
    {"std", 0, OPTION_TEXT, NULL, NULL, NULL, TRAIN, FIX,
     "what they are then divided by, by channel; unset: the standard deviation of those images"},
    {"test-set", 0, OPTION_CHOICE, "full", NULL, "full|balanced", TRAIN, 0,
     "test images: all of them, or as many known as unknown, drawn by --seed"},
    {"test-set", 0, OPTION_CHOICE, NULL, NULL, "full|balanced", EVAL, 0,
     "test images: all of them, or as many known as unknown, drawn by --seed (unset: as the run "
     "drew them); unset: as the run, or, with --data, all of them"},
    {"classes", 0, OPTION_TEXT, NULL, NULL, NULL, IMPORT, 0,
     "names of the known classes by commas, @FILE with a name a line, or their number"},
    /* model */
    {"network", 0, OPTION_TEXT, "vgg32", NULL, NULL, TRAIN | BENCH | IMPORT | TUNE, FIX,
     "network: vgg32, wrn-16-4 or resnet-18"},
    {"method", 0, OPTION_TEXT, "cac", NULL, NULL, TRAIN_ONLY | IMPORT | TUNE, FIX,
     "training method: ce, cac, difair, movr, ovr, center, gcpl, rpl or arpl"},
    {"head", 0, OPTION_CHOICE, NULL, NULL, "flatten|pool", TRAIN | IMPORT | TUNE, FIX,
     "before the linear layer: the last map as it is, or its mean; unset: that of the method"},
    {"head-bias", 0, OPTION_CHOICE, NULL, NULL, "yes|no", TRAIN | IMPORT | TUNE, FIX,
     "bias of the linear layer; unset: that of the method"},
    {"padding", 0, OPTION_CHOICE, NULL, NULL, "pytorch|tensorflow", IMPORT, 0,
     "zeros round stride-2 convolutions of vgg32; unset: those of the method"},
    {"eps", 0, OPTION_REAL, NULL, NULL, "(0,1]", IMPORT, 0,
     "added to variances by batch normalisation; unset: the method's, 1e-5 but for difair"},
    {"map", 0, OPTION_TEXT, NULL, NULL, NULL, IMPORT, 0,
     "file that says which tensor goes where; the README describes it, maps/ has some"},
    {"prefix", 0, OPTION_TEXT, NULL, NULL, NULL, IMPORT, 0,
     "what stands before every name in WEIGHTS, such as module."},
    {"alpha", 0, OPTION_REAL, NULL, NULL, "(0,1e6]", TRAIN | IMPORT, FIX,
     "length of the class anchors"},
    {"lambda", 0, OPTION_REAL, NULL, NULL, "[0,1e6]", TRAIN, FIX,
     "weight of the second term of the loss"},
    {"temperature", 0, OPTION_REAL, NULL, NULL, "(0,1e6]", TRAIN | IMPORT, FIX,
     "scale T of the cosines (movr)"},
    {"margin", 0, OPTION_REAL, NULL, "radians", "[0,3.15]", TRAIN | IMPORT, FIX,
     "margin m added to the angle (movr)"},
    {"features", 0, OPTION_INTEGER, NULL, NULL, "[1,1024]", TRAIN | IMPORT, FIX,
     "features of each class (difair)"},
    {"radius", 0, OPTION_REAL, NULL, NULL, "(0,100]", TRAIN, FIX,
     "radius free of the second penalty, as a share of the distance between anchors (difair)"},
    {"correlation", 0, OPTION_CHOICE, NULL, NULL, "code|paper", TRAIN, FIX,
     "reading of the penalty on correlated filters: of the published code (absolute values, summed "
     "over classes) or of the paper (signed, mean over pairs and classes) (difair)"},
    {"smoothing", 0, OPTION_REAL, NULL, NULL, "[0,1)", TRAIN, FIX,
     "label smoothing (ce, center, gcpl, rpl, arpl)"},
    {"rotation", 0, OPTION_REAL, NULL, NULL, "[0,1e6]", TRAIN, FIX,
     "weight of telling four rotations of each image apart, four times the work; the paper of movr "
     "has 0.1"},
    {"dropout", 0, OPTION_REAL, NULL, NULL, "[0,1)", TRAIN, FIX,
     "share of values dropped: in vgg32 as its method has it, in residual networks inside blocks"},
    {"dropout-kind", 0, OPTION_CHOICE, NULL, NULL, "element|channel", TRAIN, FIX,
     "drop single values or whole channels"},
    {"dropout-place", 0, OPTION_CHOICE, NULL, NULL, "before|after", TRAIN, FIX,
     "drop before or after each block (vgg32)"},
    {"init", 0, OPTION_TEXT, NULL, NULL, NULL, TRAIN, FIX, "model file to start from"},
    {"augment", 0, OPTION_TEXT, "none", NULL, NULL, TRAIN | INSPECT | BENCH, FIX,
     "random changes of the training images, by commas (crop:4,flip), done in this "
     "order" AUGMENT_LIST(AUGMENT_HELP)},
    /* training */
    {"epochs", 0, OPTION_INTEGER, "6", "epochs", "[1,100000]", TRAIN, 0,
     "passes through the training images"},
    {"iterations", 0, OPTION_INTEGER, "0", "steps", "[0,4000000000]", TRAIN, 0,
     "steps instead of --epochs; 0: by epochs"},
    {"second-stage", 0, OPTION_REAL, "0", NULL, "[0,1)", TRAIN, FIX,
     "share of the epochs, at the end, that go on from the best weights (--select last: from the "
     "last) with --second-lr and without the momentum of before"},
    {"second-lr", 0, OPTION_REAL, NULL, NULL, "(0,1000]", TRAIN, FIX,
     "learning rate of the second stage; unset: a tenth of --lr"},
    {"batch", 0, OPTION_INTEGER, "64", "images", "[1,65536]",
     TRAIN | EVAL | CALIBRATE | JACOBIAN | REPRESENT | BENCH | TUNE, FIX, "images of one step"},
    {"optimiser", 0, OPTION_CHOICE, NULL, NULL, "sgd|adam", TRAIN, FIX, "how weights are updated"},
    {"lr", 0, OPTION_REAL, NULL, NULL, "(0,1000]", TRAIN, FIX, "learning rate"},
    {"momentum", 0, OPTION_REAL, NULL, NULL, "[0,1)", TRAIN, FIX,
     "momentum of sgd, first decay rate of adam"},
    {"weight-decay", 0, OPTION_REAL, NULL, NULL, "[0,1]", TRAIN, FIX, "pull of weights to 0"},
    {"decay", 0, OPTION_CHOICE, NULL, NULL, "coupled|decoupled", TRAIN, FIX,
     "weight decay through the gradient or beside it"},
    {"schedule", 0, OPTION_CHOICE, NULL, NULL, "constant|step|cosine|vaze|difair",
     TRAIN, FIX,
     "course of the learning rate; vaze, difair: cosine with warm restarts as in those programs, "
     "by whole epochs, with --warmup-epochs"},
    {"warmup-steps", 0, OPTION_INTEGER, NULL, "steps", "[0,100000000]", TRAIN, FIX,
     "steps of the linear rise of the learning rate at the start"},
    {"warmup-epochs", 0, OPTION_INTEGER, "0", "epochs", "[0,100000]", TRAIN, FIX,
     "epochs of the rise of the schedules vaze and difair, at most half a cycle"},
    {"restarts", 0, OPTION_INTEGER, NULL, NULL, "[0,1000]", TRAIN, FIX,
     "warm restarts of the cosine schedules"},
    {"lr-period", 0, OPTION_INTEGER, NULL, "epochs", "[1,100000]", TRAIN, FIX,
     "epochs after which the step schedule multiplies the rate, again and again"},
    {"lr-factor", 0, OPTION_REAL, NULL, NULL, "(0,1]", TRAIN, FIX, "factor of the step schedule"},
    {"lr-min", 0, OPTION_REAL, NULL, NULL, "[0,1000]", TRAIN, FIX, "lowest learning rate"},
    {"select", 0, OPTION_CHOICE, "last", NULL, "last|best", TRAIN, 0,
     "weights that are evaluated: of the last epoch, or of the best on validation"},
    {"analyse", 0, OPTION_INTEGER, "0", "steps", "[0,1000000000]", TRAIN, 0,
     "every N steps measure Jacobian norms, AUROC and distances of test images, and record them; "
     "the training stays as it is; 0: never"},
    {"analyse-images", 0, OPTION_INTEGER, "100", "images", "[0,]", TRAIN, FIX,
     "known ones that are measured, and as many unknown; 0: all"},
    {"analyse-probes", 0, OPTION_INTEGER, "32", NULL, "[0,1000000]", TRAIN, FIX,
     "random directions of the measured norms; 0: exact norms"},
    {"seed", 0, OPTION_INTEGER, "0", NULL, "[0,]",
     SELFTEST | TRAIN | EVAL | JACOBIAN | BENCH | INSPECT | TUNE, FIX,
     "seed of everything drawn at random"},
    /* open set */
    {"score", 0, OPTION_TEXT, NULL, NULL, NULL, TRAIN | CALIBRATE | PREDICT | IMPORT, 0,
     "score of unknownness; unset: that of the method or model"},
    {"score", 0, OPTION_TEXT, NULL, NULL, NULL, EVAL, 0,
     "score of unknownness, or all; unset: that of the model"},
    {"accept", 0, OPTION_REAL, "0.95", NULL, "(0,1]", TRAIN | CALIBRATE, 0,
     "share of known validation images that the threshold accepts"},
    {"anchors", 0, OPTION_FLAG, "false", NULL, NULL, CALIBRATE, NOW,
     "class anchors anew, too: mean outputs of the images that are classified right (cac)"},
    {"threshold", 0, OPTION_REAL, NULL, NULL, NULL, PREDICT, 0,
     "score above which an image is unknown; unset: the model's"},
    {"min-auroc", 0, OPTION_REAL, NULL, NULL, "[0,1]", EVAL, 0,
     "exit with status 8 when the AUROC is lower"},
    {"bootstrap", 0, OPTION_INTEGER, "1000", "resamples", "[0,1000000]", TRAIN | EVAL, 0,
     "draws of the test images for the 95% intervals; 0: none"},
    {"confusion", 0, OPTION_TEXT, NULL, NULL, NULL, EVAL, NOW,
     "CSV file to write: which known class accepted images of each unknown class are taken for"},
    /* jacobian */
    {"method", 0, OPTION_CHOICE, NULL, NULL, "fd|exact|both", JACOBIAN, 0,
     "central differences, backward passes, or both and how they agree; unset: the cheaper"},
    {"of", 0, OPTION_CHOICE, "representation", NULL, "representation|raw|logits", JACOBIAN, 0,
     "the function: unit representation, representation as it is, logits"},
    {"directions", 0, OPTION_INTEGER, "0", NULL, "[0,1000000]", JACOBIAN, 0,
     "random directions of fd; 0: every input coordinate"},
    {"step", 0, OPTION_REAL, NULL, NULL, "(0,1]", JACOBIAN, 0,
     "step h of fd, for images scaled to [-1, 1]"},
    {"limit", 0, OPTION_INTEGER, "0", "images", "[0,]", JACOBIAN, 0,
     "known ones, and as many unknown, evenly through the test images; 0: all"},
    {"limit", 0, OPTION_INTEGER, "1000", "images", "[0,]", REPRESENT, 0,
     "training images, evenly through them, that make the class means; 0: all"},
    {"class", 0, OPTION_TEXT, NULL, NULL, NULL, REPRESENT, 0,
     "known class whose mean and maps are shown, by name; unset: the one nearest to the image"},
    {"unknown-classes", 0, OPTION_TEXT, NULL, NULL, NULL, JACOBIAN, 0,
     "of the unknown classes these only, numbers or names, by commas: so that runs with different "
     "known classes meet the same unknown ones"},
    {"segments", 0, OPTION_INTEGER, "0", "pairs", "[0,100000]", JACOBIAN, 0,
     "the norm along straight lines too, this many each within a class, from class to class, from "
     "known to unknown"},
    {"points", 0, OPTION_INTEGER, "21", "points", "[2,64]", JACOBIAN, 0, "of each of --segments"},
    /* bench */
    {"steps", 0, OPTION_INTEGER, "20", "steps", "[1,1000000]", BENCH, 0, "timed steps"},
    {"sweep", 0, OPTION_FLAG, "false", NULL, NULL, BENCH, NOW,
     "also rates and memory of batches 8, 16 ... 512"},
    {"start", 0, OPTION_CHOICE, "off", NULL, "off|once|both", BENCH, NOW,
     "once: only print the seconds of the start; both: time the start of a process, 3 times cold "
     "and 5 times warm (each at most --steps times), and print the medians"},
    {"tuning", 0, OPTION_TEXT, NULL, NULL, NULL, BENCH, NOW,
     "file with choices of convolutions that are to be used: of --tuning-out, osr tune or a run"},
    {"tuning-out", 0, OPTION_TEXT, NULL, NULL, NULL, BENCH, NOW,
     "file to write: all choices of this bench, to be changed and given as --tuning"},
    {"compare", 0, OPTION_TEXT, NULL, NULL, NULL, BENCH, NOW,
     "file with the --json output of an earlier bench of the same version, device and network"},
    {"seconds", 0, OPTION_REAL, "30", "seconds", "[0,86400]", TUNE, 0,
     "time for all of it; what no longer fits is left out and counted"},
    /* machine and run */
    {"device", 0, OPTION_TEXT, NULL, NULL, NULL, COMPUTE | INSPECT, 0,
     "device by number or part of its name, as osr devices prints them; unset: the first"},
    {"kernels", 0, OPTION_CHOICE, "auto", NULL, "auto|cpu|gpu", COMPUTE | INSPECT, 0,
     "family of kernels; auto: by the kind of device"},
    {"op", 0, OPTION_TEXT, NULL, NULL, NULL, SELFTEST, NOW, "this op only"},
    {"quick", 0, OPTION_FLAG, "false", NULL, NULL, SELFTEST, NOW, "small shapes only"},
    {"algorithm", 0, OPTION_CHOICE, "auto", NULL, "auto|direct|winograd", SELFTEST | TRAIN | BENCH,
     FIX, "convolutions: auto (Winograd where it is faster), or one of them wherever it can be"},
    {"products", 0, OPTION_CHOICE, "fixed", NULL, "fixed|small|large|clblast",
     SELFTEST | TRAIN | BENCH, FIX,
     "what makes products of the gpu kernels: other tiles, or CLBlast (built with OSR_CLBLAST)"},
    {"tuned", 0, OPTION_CHOICE, "no", NULL, "no|yes", TRAIN | BENCH, FIX,
     "convolutions as osr tune chose them on this device; a run keeps the choices in tuning.txt"},
    {"png", 0, OPTION_TEXT, NULL, NULL, NULL, INSPECT, NOW,
     "file to write: in each row a training image, then what --augment makes of it"},
    {"out", 'o', OPTION_TEXT, NULL, NULL, NULL, PROTOCOL, NOW,
     "directory of the grid, gone on with where it is there; unset: runs/protocol-DATA-SPLIT"},
    {"out", 'o', OPTION_TEXT, NULL, NULL, NULL, TRAIN_ONLY, NOW,
     "directory of the run; unset: runs/DATA-METHOD-N"},
    {"out", 'o', OPTION_TEXT, NULL, NULL, NULL, JACOBIAN | REPRESENT, NOW,
     "folder for JSON, CSV and pictures (SVG); made where it does not exist"},
    {"resume", 0, OPTION_TEXT, NULL, NULL, NULL, TRAIN_ONLY, NOW,
     "continue the run in this directory with its own settings"},
    {"config", 'c', OPTION_TEXT, NULL, NULL, NULL, ALL & ~(DEVICES | INSPECT), NOW,
     "INI file with settings, such as the config.ini of a run"},
    {"json", 0, OPTION_FLAG, "false", NULL, NULL, ALL, NOW, "results as JSON"},
    {"quiet", 'q', OPTION_FLAG, "false", NULL, NULL, ALL, NOW, "no progress, only errors"},
    {"verbose", 'v', OPTION_FLAG, "false", NULL, NULL, ALL, NOW, "more messages"},
    {"color", 0, OPTION_CHOICE, "auto", NULL, "auto|always|never", ALL, NOW,
     "colour of messages; auto: on a terminal without NO_COLOR"},
    {"help", 'h', OPTION_FLAG, "false", NULL, NULL, ALL, NOW, "this text"}};

const int option_count = (int)(sizeof option_table / sizeof option_table[0]);

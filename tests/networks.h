/* networks.h - written by make_networks.py with PyTorch 1.13.0a0 */
#ifndef NETWORKS_H
#define NETWORKS_H

static const struct network_vector {
    const char *name;
    long parameters; /* 3 channels, 6 classes, 32 pixels */
    float at_32[12], at_64[12]; /* logits of two images */
    int seed;        /* of the images of the training step */
    float step[21];  /* see make_networks.py */
} network_vectors[] = {
    {"vgg32", 1011398,
     {0.144450164f, 0.248850446f, 0.210033096f, 0.0309621705f, 0.0780133039f, -0.392421314f,
      0.187776322f, 0.299946696f, 0.191020035f, -0.0789066234f, 0.137248124f, -0.354041443f},
     {-0.00267276382f, 0.249429693f, 0.1217234f, -0.209324007f, -0.0444187805f, -0.177841658f,
      0.0518753196f, 0.203325294f, 0.102677835f, -0.26781845f, -0.132131575f, -0.199140817f},
     12,
     {1.99683973f, 0.104974489f, 0.028452903f, -0.0785953469f, 0.00804705483f, -0.0482333737f,
      0.00922126727f, -0.0348369076f, -0.0088564275f, 0.00853143113f, 0.00217707415f,
      0.00349931742f, 0.0283879094f, -0.00396533507f, 0.0607364498f, 0.0653874308f, -0.115750507f,
      0.165583396f, 0.781773257f, 0.079907486f, 0.756811267f}},
    {"wrn-16-4", 2747862,
     {0.618604335f, -0.00568627661f, 0.397238792f, 0.300716312f, 0.123212463f, -0.443887004f,
      0.602903746f, 0.011473882f, 0.380105011f, 0.289592856f, 0.150637516f, -0.455283191f},
     {0.611001876f, -0.031075231f, 0.44429794f, 0.337833059f, 0.132936895f, -0.482287695f,
      0.628787521f, -0.0220257029f, 0.440228272f, 0.370745007f, 0.114199804f, -0.510320749f},
     9,
     {1.94155878f, 0.0193416067f, 0.108632469f, -0.221818701f, -0.13875052f, 0.00945284304f,
      -0.00270961546f, -0.0143598085f, -0.000657466497f, -0.00196119299f, 0.0140359636f,
      0.00638963049f, 0.00624383462f, -0.060151657f, 0.0225812365f, -0.0980275019f, 0.0112206377f,
      0.164228735f, 0.781683893f, 0.00688523317f, 0.835304058f}},
    {"resnet-18", 11171910,
     {-0.202798764f, -0.365391614f, 0.208979368f, -0.641360073f, 1.01980777f, 0.566553564f,
      -0.210778041f, -0.327976966f, 0.182787034f, -0.619472114f, 1.03160349f, 0.610426839f},
     {-0.221201071f, -0.451995661f, 0.0561906022f, -0.638783136f, 1.25048843f, 0.779523664f,
      -0.233395602f, -0.446083487f, 0.0962977094f, -0.663436954f, 1.19857954f, 0.756610727f},
     21,
     {2.03380167f, -0.400780219f, 0.0659290535f, 0.175381413f, -0.311886604f, 0.014063047f,
      0.0287092561f, -0.0137693538f, -0.0472030707f, 0.0131605615f, -0.00730298721f,
      0.0220268909f, 0.0156537703f, 0.0995004957f, -0.00504757277f, 0.19551407f, -0.115728379f,
      0.166966476f, 0.781525542f, 0.0360393395f, 0.948793498f}},
};

static const struct import_vector {
    const char *map, *network, *options;
    const char *layers; /* in osr's order */
    float at_32[12];
} import_vectors[] = {
    {"vgg32-cac", "vgg32", "--method cac",
     "encoder.conv1 encoder.bn1 encoder.conv2 encoder.bn2 encoder.conv3 encoder.bn3 "
     "encoder.conv4 encoder.bn4 encoder.conv5 encoder.bn5 encoder.conv6 encoder.bn6 "
     "encoder.conv7 encoder.bn7 encoder.conv8 encoder.bn8 encoder.conv9 encoder.bn9 classify",
     {0.144450164f, 0.248850446f, 0.210033096f, 0.0309621705f, 0.0780133039f, -0.392421314f,
      0.187776322f, 0.299946696f, 0.191020035f, -0.0789066234f, 0.137248124f, -0.354041443f}},
    {"vgg32-vaze", "vgg32", "--method ce --head pool --head-bias no",
     "conv1 bn1 conv2 bn2 conv3 bn3 conv4 bn4 conv5 bn5 conv6 bn6 conv7 bn7 conv8 bn8 conv9 bn9 "
     "fc",
     {-0.266198183f, -0.0254233781f, -0.00294910945f, -0.326742151f, -0.233686383f, 0.328186045f,
      -0.285032466f, -0.00905171166f, 0.0105281553f, -0.321919659f, -0.221571135f, 0.321540821f}},
    {"wrn-16-4", "wrn-16-4", "--method ce",
     "conv1 block1.layer.0.bn1 block1.layer.0.conv1 block1.layer.0.bn2 block1.layer.0.conv2 "
     "block1.layer.0.convShortcut block1.layer.1.bn1 block1.layer.1.conv1 block1.layer.1.bn2 "
     "block1.layer.1.conv2 block2.layer.0.bn1 block2.layer.0.conv1 block2.layer.0.bn2 "
     "block2.layer.0.conv2 block2.layer.0.convShortcut block2.layer.1.bn1 block2.layer.1.conv1 "
     "block2.layer.1.bn2 block2.layer.1.conv2 block3.layer.0.bn1 block3.layer.0.conv1 "
     "block3.layer.0.bn2 block3.layer.0.conv2 block3.layer.0.convShortcut block3.layer.1.bn1 "
     "block3.layer.1.conv1 block3.layer.1.bn2 block3.layer.1.conv2 bn1 fc",
     {0.618604335f, -0.00568627661f, 0.397238792f, 0.300716312f, 0.123212463f, -0.443887004f,
      0.602903746f, 0.011473882f, 0.380105011f, 0.289592856f, 0.150637516f, -0.455283191f}},
    {"resnet-18-torchvision", "resnet-18", "--method ce",
     "conv1 bn1 layer1.0.conv1 layer1.0.bn1 layer1.0.conv2 layer1.0.bn2 layer1.1.conv1 "
     "layer1.1.bn1 layer1.1.conv2 layer1.1.bn2 layer2.0.conv1 layer2.0.bn1 layer2.0.conv2 "
     "layer2.0.bn2 layer2.0.downsample.0 layer2.0.downsample.1 layer2.1.conv1 layer2.1.bn1 "
     "layer2.1.conv2 layer2.1.bn2 layer3.0.conv1 layer3.0.bn1 layer3.0.conv2 layer3.0.bn2 "
     "layer3.0.downsample.0 layer3.0.downsample.1 layer3.1.conv1 layer3.1.bn1 layer3.1.conv2 "
     "layer3.1.bn2 layer4.0.conv1 layer4.0.bn1 layer4.0.conv2 layer4.0.bn2 layer4.0.downsample.0 "
     "layer4.0.downsample.1 layer4.1.conv1 layer4.1.bn1 layer4.1.conv2 layer4.1.bn2 fc",
     {-0.202798764f, -0.365391614f, 0.208979368f, -0.641360073f, 1.01980777f, 0.566553564f,
      -0.210778041f, -0.327976966f, 0.182787034f, -0.619472114f, 1.03160349f, 0.610426839f}},
    {"resnet-18-openood", "resnet-18", "--method ce",
     "conv1 bn1 layer1.0.conv1 layer1.0.bn1 layer1.0.conv2 layer1.0.bn2 layer1.1.conv1 "
     "layer1.1.bn1 layer1.1.conv2 layer1.1.bn2 layer2.0.conv1 layer2.0.bn1 layer2.0.conv2 "
     "layer2.0.bn2 layer2.0.shortcut.0 layer2.0.shortcut.1 layer2.1.conv1 layer2.1.bn1 "
     "layer2.1.conv2 layer2.1.bn2 layer3.0.conv1 layer3.0.bn1 layer3.0.conv2 layer3.0.bn2 "
     "layer3.0.shortcut.0 layer3.0.shortcut.1 layer3.1.conv1 layer3.1.bn1 layer3.1.conv2 "
     "layer3.1.bn2 layer4.0.conv1 layer4.0.bn1 layer4.0.conv2 layer4.0.bn2 layer4.0.shortcut.0 "
     "layer4.0.shortcut.1 layer4.1.conv1 layer4.1.bn1 layer4.1.conv2 layer4.1.bn2 fc",
     {-0.202798764f, -0.365391614f, 0.208979368f, -0.641360073f, 1.01980777f, 0.566553564f,
      -0.210778041f, -0.327976966f, 0.182787034f, -0.619472114f, 1.03160349f, 0.610426839f}},
};

#endif

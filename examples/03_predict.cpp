// The same from C++: two owning pointers are all the wrapping that the C interface needs.
//
//     03_predict [MODEL]      without it: tiny.safetensors, which 01_train_model writes
#include "osr.h"

#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

struct Release {
    void operator()(osr_ctx *ctx) const { osr_ctx_destroy(ctx); }
    void operator()(osr_model *model) const { osr_model_destroy(model); }
};

class Classifier {
public:
    explicit Classifier(const std::string &path)
    {
        osr_ctx *ctx = nullptr;
        osr_model *model = nullptr;
        osr_status status = osr_ctx_create(nullptr, &ctx);
        ctx_.reset(ctx);
        if (status == OSR_OK)
            status = osr_model_load(ctx, path.c_str(), &model);
        model_.reset(model);
        check(status);
    }

    // A picture of 0..255, row by row, of any size; 1 channel for grey, 3 for colour.
    osr_prediction operator()(const std::vector<unsigned char> &pixels, int height, int width,
                              int channels)
    {
        osr_prediction p = osr_prediction();
        check(osr_model_predict(model_.get(), pixels.data(), 1, height, width, channels, &p));
        return p;
    }

private:
    void check(osr_status status) const
    {
        if (status != OSR_OK)
            throw std::runtime_error(osr_ctx_message(ctx_.get()));
    }

    std::unique_ptr<osr_ctx, Release> ctx_; // outlives the model: members go in reverse order
    std::unique_ptr<osr_model, Release> model_;
};

int main(int argc, char **argv)
{
    const int side = 64; // the model's own size is 16 x 16: pictures are resized
    std::vector<unsigned char> pixels(static_cast<std::size_t>(side * side), 40);
    for (int y = 0; y < side; ++y)
        for (int x = 28; x < 36; ++x)
            pixels[static_cast<std::size_t>(y * side + x)] = 220;
    try {
        Classifier classify(argc > 1 ? argv[1] : "tiny.safetensors");
        const osr_prediction p = classify(pixels, side, side, 1);
        std::cout << "an upright bar is " << (p.known ? p.name : "unknown") << " (score " << p.score
                  << ", threshold " << p.threshold << ")\n";
    } catch (const std::exception &e) {
        std::cerr << "error: " << e.what() << "\n";
        return 1;
    }
    return 0;
}

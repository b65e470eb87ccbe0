/* test_analysis - the analysis of Jacobian norms and the reading of representations: distances
 * against brute force, pictures that are well formed, a training that measuring does not change,
 * maps that add up to the values they explain, and errors that name what is wrong */
#define _XOPEN_SOURCE 700
#include "analysis.h"
#include "data.h"
#include "exit_codes.h"
#include "moments.h"
#include "program.h"
#include "reading.h"
#include "svg.h"

#include <sys/stat.h>

static char file[TEXT];

#define TRAIN "train --data glyphs:180,80 --size 16 --batch 32 --seed 3 --epochs 2 --quiet"

/* ---- running the program ---- */

/* OSR(code, text on stderr or NULL, format, ...) */
#define OSR(code, said, ...) says(shell("\"$OSR_PROGRAM\" " __VA_ARGS__), code, said, __LINE__)

static void says(int code, int wanted, const char *said, int line)
{
    expect(code, wanted, line);
    if (said != NULL && !test_check(has(err, said), said, __FILE__, line))
        fprintf(stderr, "    %s\n%.2000s", command, err);
}

static int lines(const char *path)
{
    int n = 0;
    slurp(path, file);
    for (const char *t = file; *t != '\0'; ++t)
        n += *t == '\n';
    return n;
}

/* ---- JSON and XML ---- */

/* Skips one JSON value; NULL where it is none. */
static const char *json_value(const char *t)
{
    t += strspn(t, " \n");
    if (*t == '"') {
        for (++t; *t != '"'; ++t)
            if (*t == '\0' || (unsigned char)*t < 32 || (*t == '\\' && *++t == '\0'))
                return NULL;
        return t + 1;
    }
    if (*t == '{' || *t == '[') {
        const char close = *t == '{' ? '}' : ']';
        if (*++t == close)
            return t + 1;
        for (;; ++t) {
            if (close == '}') {
                t = *t == '"' ? json_value(t) : NULL;
                if (t == NULL || *t++ != ':')
                    return NULL;
            }
            t = json_value(t);
            if (t == NULL || (*t != ',' && *t != close))
                return NULL;
            if (*t == close)
                return t + 1;
        }
    }
    if (strncmp(t, "true", 4) == 0 || strncmp(t, "null", 4) == 0)
        return t + 4;
    if (strncmp(t, "false", 5) == 0)
        return t + 5;
    const size_t n = strspn(t, "+-.0123456789eE");
    return n > 0 ? t + n : NULL;
}

static int json_ok(const char *text)
{
    const char *end = json_value(text);
    return end != NULL && end[strspn(end, "\n")] == '\0';
}

static double number_in(const char *text, const char *key)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"%s\":", key);
    const char *at = strstr(text, wanted);
    return at != NULL ? atof(at + strlen(wanted)) : NAN;
}

/* Elements closed in order, attributes quoted, no bare & or <, one element that holds all. */
static int xml_ok(const char *t)
{
    char open[16][32];
    int depth = 0, roots = 0;
    while (*t != '\0') {
        if (*t == '&' && strncmp(t, "&amp;", 5) != 0 && strncmp(t, "&lt;", 4) != 0
            && strncmp(t, "&gt;", 4) != 0 && strncmp(t, "&quot;", 6) != 0)
            return 0;
        if (*t++ != '<')
            continue;
        const int closing = *t == '/';
        t += closing;
        const size_t n = strcspn(t, " />");
        if (n == 0 || n > 31 || strcspn(t, "<&") < n)
            return 0;
        if (closing) {
            if (depth == 0 || strlen(open[--depth]) != n || strncmp(open[depth], t, n) != 0)
                return 0;
            t += n;
        } else {
            if (depth == 16)
                return 0;
            roots += depth == 0;
            snprintf(open[depth++], 32, "%.*s", (int)n, t);
            for (t += n; *t == ' ';) {
                t += strcspn(t, "=<>");
                if (t[0] != '=' || t[1] != '"')
                    return 0;
                t += 2 + strcspn(t + 2, "\"<");
                if (*t++ != '"')
                    return 0;
            }
            if (*t == '/') {
                --depth;
                ++t;
            }
        }
        if (*t++ != '>')
            return 0;
    }
    return depth == 0 && roots == 1;
}

static void check_svg(const char *path, const char *part, int line)
{
    slurp(path, file);
    test_check(xml_ok(file) && strncmp(file, "<svg ", 5) == 0, path, __FILE__, line);
    test_check(strstr(file, "nan") == NULL && strstr(file, "inf\"") == NULL, path, __FILE__, line);
    if (!test_check(strstr(file, part) != NULL, part, __FILE__, line))
        fprintf(stderr, "    %s\n", path);
}

/* ---- numbers ---- */

static void distances_by_hand(void)
{
    /* two classes: (0, +-1) and (4, +-1); S = 1 each, means 4 apart */
    const float f[] = {0, 1, 0, -1, 4, 1, 4, -1};
    const int32_t label[] = {0, 0, 1, 1}, one[] = {1, 1, 1, 1}, gap[] = {0, 0, 2, 2};
    struct separation s;
    CHECK(separation_compute(f, label, 4, 2, 2, &s) == EXIT_OK);
    CHECK_NEAR(s.davies_bouldin, 0.5, 1e-12);
    CHECK_NEAR(s.intra, 1.0, 1e-12);
    CHECK_NEAR(s.inter, (4.0 + sqrt(20.0)) / 2.0, 1e-12);
    CHECK(s.classes == 2);
    CHECK(separation_compute(f, gap, 4, 2, 4, &s) == EXIT_OK); /* classes without images */
    CHECK_NEAR(s.davies_bouldin, 0.5, 1e-12);
    CHECK(separation_compute(f, one, 4, 2, 2, &s) == EXIT_OK);
    CHECK(isnan(s.davies_bouldin) && isnan(s.inter) && s.classes == 1);
    const float twice[] = {0, 1, 0, -1, 0, 1, 0, -1};
    CHECK(separation_compute(twice, label, 4, 2, 2, &s) == EXIT_OK && isinf(s.davies_bouldin));
}

/* Three unlike classes in the plane of random points, every quantity straight from its formula. */
static void distances_by_brute_force(void)
{
    enum { N = 60, D = 5, K = 3 };
    uint64_t random = test_seed();
    float f[N][D];
    int32_t label[N];
    long double mean[K][D] = {{0}}, spread[K] = {0}, inter = 0, intra = 0, db = 0;
    int count[K] = {0}, pairs = 0;
    for (int i = 0; i < N; ++i) {
        label[i] = (int32_t)(test_random(&random) % 7 < 4 ? 0 : 1 + test_random(&random) % 2);
        count[label[i]]++;
        for (int d = 0; d < D; ++d) {
            f[i][d] = (float)(test_uniform(&random) + 0.7 * label[i] * (d % 2));
            mean[label[i]][d] += (long double)f[i][d];
        }
    }
    for (int k = 0; k < K; ++k)
        for (int d = 0; d < D; ++d)
            mean[k][d] /= count[k];
    for (int i = 0; i < N; ++i) {
        long double s = 0;
        for (int d = 0; d < D; ++d)
            s += ((long double)f[i][d] - mean[label[i]][d]) * ((long double)f[i][d]
                                                               - mean[label[i]][d]);
        spread[label[i]] += sqrtl(s) / count[label[i]];
        intra += sqrtl(s) / N;
        for (int j = 0; j < N; ++j) { /* both orders: the mean is the same */
            long double apart = 0;
            for (int d = 0; d < D; ++d)
                apart += powl((long double)f[i][d] - (long double)f[j][d], 2);
            inter += label[i] != label[j] ? sqrtl(apart) : 0;
            pairs += label[i] != label[j];
        }
    }
    for (int k = 0; k < K; ++k) {
        long double worst = 0;
        for (int j = 0; j < K; ++j) {
            long double apart = 0;
            for (int d = 0; d < D; ++d)
                apart += powl(mean[k][d] - mean[j][d], 2);
            if (j != k && (spread[k] + spread[j]) / sqrtl(apart) > worst)
                worst = (spread[k] + spread[j]) / sqrtl(apart);
        }
        db += worst / K;
    }
    struct separation s;
    CHECK(separation_compute(&f[0][0], label, N, D, K, &s) == EXIT_OK);
    CHECK_NEAR(s.davies_bouldin, (double)db, 1e-12);
    CHECK_NEAR(s.inter, (double)(inter / pairs), 1e-12);
    CHECK_NEAR(s.intra, (double)intra, 1e-12);
}

static void spreading(void)
{
    uint32_t index[10] = {0, 10, 20, 30, 40, 50, 60, 70, 80, 90};
    int32_t label[10] = {0, 0, 0, 0, 0, 1, 1, 1, 1, 1};
    const struct subset all = {10, index, label};
    struct subset some;
    CHECK(subset_spread(&all, 4, &some) == EXIT_OK && some.count == 4);
    for (uint32_t i = 0; i < 4; ++i) { /* one of each quarter, with its own label */
        CHECK(some.index[i] / 10 >= 5 * i / 2 && some.index[i] / 10 < 5 * (i + 1) / 2 + 1);
        CHECK(some.label[i] == (some.index[i] >= 50));
    }
    subset_free(&some);
    CHECK(subset_spread(&all, 0, &some) == EXIT_OK && some.count == 10 && some.index[9] == 90);
    subset_free(&some);
    for (int i = 0; i < 10; ++i) /* classes in turn */
        label[i] = i % 2;
    CHECK(subset_spread(&all, 5, &some) == EXIT_OK);
    int of_class = 0;
    for (int i = 0; i < 5; ++i)
        of_class += some.label[i];
    CHECK(of_class > 0 && of_class < 5);
    subset_free(&some);
    CHECK(subset_spread(&all, 11, &some) == EXIT_OK && some.count == 10);
    subset_free(&some);
}

/* ---- pictures ---- */

static void axes(void)
{
    uint64_t random = test_seed();
    char text[32];
    for (int i = 0; i < 2000; ++i) {
        const double low = (test_uniform(&random) - 0.5) * pow(10.0, (double)(i % 13) - 6.0);
        const double high = low + test_uniform(&random) * pow(10.0, (double)(i % 11) - 5.0);
        const struct svg_axis a = svg_axis_make(low, high, 5, NULL);
        const double lead = a.step / pow(10.0, floor(log10(a.step) + 1e-9));
        const double steps = (a.high - a.low) / a.step;
        CHECK(fabs(lead - 1.0) < 1e-6 || fabs(lead - 2.0) < 1e-6 || fabs(lead - 5.0) < 1e-6);
        CHECK(a.low <= low + 1e-6 * a.step && a.high >= high - 1e-6 * a.step);
        CHECK(steps > 0.5 && steps < 12.5 && fabs(steps - round(steps)) < 1e-3);
    }
    const struct svg_axis a = svg_axis_make(0.0, 0.73, 5, NULL);
    CHECK(strcmp(svg_tick(&a, 3 * a.step, text), "0.6") == 0);
    CHECK(svg_axis_make(NAN, 1.0, 5, NULL).high > 0.5);
    const struct svg_axis one = svg_axis_make(2.0, 2.0, 5, NULL);
    CHECK(one.low < 2.0 && one.high > 2.0);
}

static void shapes(void)
{
    const double x[] = {0, 1, 2, 3}, y[] = {0.5, NAN, 0.2, 0.4}, e[] = {0, 1, 2, 3, 4};
    struct svg s;
    struct svg_chart c = {0};
    char message[256], cut[16];
    svg_open(&s, 300, 200, "a < b & \"c\" \xff\xe2\x82\xac\x01");
    c.across = svg_axis_make(0, 3, 3, "x & y");
    c.up = svg_axis_make(0, 1, 5, "up");
    c.x = svg_chart_margin(&c.up);
    c.y = 20;
    c.width = 200;
    c.height = 100;
    svg_chart_draw(&s, &c);
    svg_curve(&s, &c, x, y, 4, SVG_BLUE, 1);
    svg_bars(&s, &c, e, x, 4, SVG_RED);
    svg_band(&s, &c, x, x, x, 4, SVG_RED);
    svg_rect(&s, NAN, INFINITY, -0.004, 1.005, "#000000", 0.5);
    CHECK(svg_save(&s, "shapes.svg", message, sizeof message) == EXIT_OK);
    svg_free(&s);
    check_svg("shapes.svg", "a &lt; b &amp; &quot;c&quot; ?\xe2\x82\xac?</title>", __LINE__);
    CHECK(has(file, "x=\"0\" y=\"0\" width=\"0\" height=\"1") && has(file, "<circle"));
    CHECK(!xml_ok("<svg><a></svg></a>") && !xml_ok("<svg a=1></svg>") && !xml_ok("<svg>&</svg>"));
    CHECK(strcmp(svg_cut("abcdefghij", 10, 40.0, cut, sizeof cut), "abc...") == 0);
    CHECK(strcmp(svg_cut("abc", 10, 40.0, cut, sizeof cut), "abc") == 0);
}

/* ---- moments ---- */

static void moments(void)
{
    struct run_dir run;
    struct moments m = {0};
    struct moment one = {0};
    char message[512];
    CHECK(run_create(&run, "log", "x", "y") == EXIT_OK);
    for (int i = 0; i < 5; ++i) {
        one.step = 10.0 * i;
        one.jnd = -0.125 * i;
        one.auroc = i == 2 ? NAN : 0.5;
        CHECK(moments_add(&run, &m, &one) == EXIT_OK);
    }
    moments_free(&m);
    CHECK(moments_resume(&run, 25.0, &m) == EXIT_OK && m.count == 3);
    CHECK(m.at[2].step > 19.0 && m.at[2].step < 21.0 && isnan(m.at[2].auroc));
    CHECK_NEAR(m.at[2].jnd, -0.25, 0.0);
    moments_free(&m);
    CHECK(moments_read("log/analysis.jsonl", &m, message, sizeof message) == EXIT_OK
          && m.count == 3);
    CHECK(moments_save(&m, "log", "log", "analysis") == EXIT_OK);
    check_svg("log/analysis.svg", "Davies-Bouldin", __LINE__);
    CHECK(lines("log/analysis.csv") == 4 && strncmp(file, "step,epoch,accuracy,auroc,", 26) == 0);
    CHECK(moments_save(&m, "log", "log/analysis.csv", "x") == EXIT_IO);
    moments_free(&m);
    run_close(&run);
    CHECK(shell("(echo '{\"stop\":3}' >> log/analysis.jsonl)") == 0);
    CHECK(moments_read("log/analysis.jsonl", &m, message, sizeof message) == EXIT_DATA
          && has(message, "line 4"));
    CHECK(moments_read("nosuch", &m, message, sizeof message) == EXIT_OK && m.count == 0);
}

/* ---- training that is measured ---- */

/* Measuring leaves the bits alone, before and after a stop; the records do not depend on it. */
static void measured_training(void)
{
    OSR(0, NULL, TRAIN " --method ce --out plain");
    OSR(0, NULL, TRAIN " --method ce --analyse 4 --analyse-images 0 --analyse-probes 4 "
                       "--out ce");
    CHECK(same("plain/model.safetensors", "ce/model.safetensors"));
    CHECK(same("plain/last.safetensors", "ce/last.safetensors"));
    CHECK(lines("ce/analysis.jsonl") == 3); /* steps 0, 4 and the last, 6 */
    slurp("ce/analysis.jsonl", file);
    for (char *line = strtok(file, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        CHECK(json_ok(line));
        if (number_in(line, "step") < 0.5)
            CHECK(number_in(line, "norm_known") > 0.0);
        strcpy(out, line);
    }
    /* what was measured last is what osr eval finds */
    const double auroc = number_in(out, "auroc"), accuracy = number_in(out, "accuracy");
    CHECK_NEAR(number_in(out, "jnd"), number_in(out, "norm_unknown") - number_in(out, "norm_known"),
               1e-6);
    OSR(0, NULL, "eval ce --json");
    CHECK_NEAR(number_in(out, "auroc"), auroc, 1e-7);
    CHECK_NEAR(number_in(out, "closed_accuracy"), accuracy, 1e-7);
    check_svg("ce/analysis.svg", "difference (JND)", __LINE__);
    OSR(3, "no test image of an unknown class",
        "train --data glyphs:180,80 --known 0-9 --analyse 2 --epochs 1 --out none");
}

/* Stopped in the middle, with a record of a moment that its checkpoint has not reached. */
static void resumed_training(void)
{
    const pid_t child = start(TRAIN " --method ce --analyse 4 --analyse-images 0 "
                              "--analyse-probes 4 --out stopped");
    wait_for("stopped/analysis.jsonl", child);
    kill(child, SIGTERM);
    expect(finish(child), 143, __LINE__);
    CHECK(shell("(tail -n 1 ce/analysis.jsonl >> stopped/analysis.jsonl)") == 0
          && lines("stopped/analysis.jsonl") >= 2);
    OSR(0, NULL, "train --resume stopped --quiet");
    CHECK(same("stopped/analysis.jsonl", "ce/analysis.jsonl"));
    CHECK(same("stopped/model.safetensors", "ce/model.safetensors"));
}

/* ---- osr jacobian ---- */

/* Sum of the integers of an array in JSON text. */
static long sum_of(const char *text, const char *key)
{
    char wanted[64];
    long sum = 0;
    snprintf(wanted, sizeof wanted, "\"%s\":[", key);
    const char *at = strstr(text, wanted);
    for (at = at != NULL ? at + strlen(wanted) : ""; *at != ']' && *at != '\0';) {
        char *end;
        sum += strtol(at, &end, 10);
        at = end + (*end == ',');
    }
    return sum;
}

/* The norm of an image in norms.csv, of the known (1) or unknown ones. */
static double norm_of(const char *csv, unsigned index, int known)
{
    for (const char *line = strchr(csv, '\n'); line != NULL && line[1] != '\0';
         line = strchr(line + 1, '\n')) {
        unsigned i;
        int label, k;
        double norm;
        if (sscanf(line + 1, "%u,%d,%d,%lf", &i, &label, &k, &norm) == 4 && i == index
            && k == known)
            return norm;
    }
    return NAN;
}

#define FEW "jacobian ce --limit 2 --method fd --directions 1 "

static void norms(void)
{
    char kind[32], *rest = NULL;
    OSR(0, NULL, "jacobian ce --limit 6 --of logits --method both --segments 3 "
                 "--points 5 --out jac --json");
    CHECK(json_ok(out) && number_in(out, "n_known") > 5.5);
    CHECK(number_in(out, "most") > 0.0 && number_in(out, "most") < 1e-2);
    CHECK(fabs(number_in(out, "of_means")) < 2e-3);
    CHECK(sum_of(out, "known") == 6 && sum_of(out, "unknown") == 6);
    slurp("jac/jacobian.json", file);
    CHECK(shell("cat jac/jacobian.json; echo") == 0 && json_ok(file));
    check_svg("jac/histogram.svg", "unknown, mean", __LINE__);
    check_svg("jac/segments.svg", "different classes (3)", __LINE__);
    check_svg("jac/training.svg", "AUROC", __LINE__);
    CHECK(lines("jac/norms.csv") == 13 && lines("jac/segments.csv") == 1 + 3 * 3 * 5);
    /* a segment ends in images whose norms are known */
    slurp("jac/segments.csv", out);
    slurp("jac/norms.csv", file);
    int ends = 0;
    for (char *line = strtok_r(out, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        unsigned pair, from, to;
        double t, norm;
        if (sscanf(line, "%31[^,],%u,%u,%u,%lf,%lf", kind, &pair, &from, &to, &t, &norm) != 6)
            continue;
        if (t < 1e-9 || t > 1.0 - 1e-9) {
            const int known = t < 0.5 || strcmp(kind, "known to unknown") != 0;
            CHECK_NEAR(norm / norm_of(file, t < 0.5 ? from : to, known), 1.0, 1e-4);
            ++ends;
        }
    }
    CHECK(ends == 18);
    OSR(0, NULL, "jacobian ce --limit 6 --directions 8 --method fd --unknown-classes 6,hit");
    CHECK(has(out, "JND") && has(out, "Davies-Bouldin"));
    OSR(2, "\"nosuch\" is none of the unknown classes", "jacobian ce --unknown-classes 6,nosuch");
    OSR(2, "\"0\" is none of the unknown classes", "jacobian ce --unknown-classes 0");
    OSR(6, "out/x: Not a directory", FEW "--out out/x");
    OSR(6, "/dev/full/jacobian.json", FEW "--out /dev/full");
    CHECK(mkdir("disk", 0777) == 0);
    if (shell("unshare -rm mount -t tmpfs none disk") != 0) {
        printf("no name space of its own for a small disk: that check is left out\n");
        return;
    }
    says(shell("unshare -rm sh -c 'mount -t tmpfs -o size=8k none disk && \"$OSR_PROGRAM\" "
               FEW "--out disk; code=$?; ls -A disk; exit $code'"),
           6, "No space left on device", __LINE__);
    CHECK(has(out, "jacobian.json") && !has(out, "tmp") && !has(out, "svg"));
}

static void comparison(void)
{
    OSR(0, NULL, TRAIN " --method movr --weight-decay 0.01 --known 0-3 --out movr");
    OSR(0, NULL, "jacobian ce plain movr --limit 4 --method fd --directions 2 --out cmp --json "
                 "--unknown-classes 6-9");
    CHECK(json_ok(out) && out[0] == '[' && has(out, "\"weight-decay\":\"0.01\"")
          && has(out, "\"classes\":4") && has(out, "\"known\":\"0-3\""));
    check_svg("cmp/compare.svg", "Davies-Bouldin index", __LINE__);
    CHECK(has(file, ">K 4, ") && has(file, ">K 6, "));
    CHECK(lines("cmp/compare.csv") == 4 && has(file, "\"0-3\""));
    OSR(0, NULL, "jacobian ce movr --limit 4 --method fd --directions 2");
    CHECK(has(out, "weight-decay"));
    OSR(2, "--segments goes with one run", "jacobian ce movr --segments 2");
    OSR(3, "nosuch", "jacobian ce nosuch");
}

/* Only known classes: nothing to hold them against. */
static void without_unknown(void)
{
    struct data data;
    char message[256], path[300];
    if (!CHECK(data_open("glyphs:180,80", 3, 0, 0, &data, message, sizeof message) == EXIT_OK))
        return;
    for (int c = 0; c < 6; ++c) {
        const struct data_set *set = &data.test;
        const size_t image = (size_t)set->width * (size_t)set->height;
        size_t i = 0;
        while (set->labels[i] != c)
            ++i;
        CHECK(shell("mkdir -p six/train/%s six/test/%s", set->class_names[c], set->class_names[c])
              == 0);
        for (int part = 0; part < 2; ++part) {
            snprintf(path, sizeof path, "six/%s/%s/1.png", part ? "train" : "test",
                     set->class_names[c]);
            CHECK(image_write_grid(path, set->pixels + i * image, 1, set->width, set->height, 1, 1,
                                   message, sizeof message) == EXIT_OK);
        }
    }
    data_close(&data);
    OSR(3, "folder:six: no test image of an unknown class", "jacobian ce --data folder:six");
    /* with random directions each image has its own: two of the same picture differ */
    CHECK(shell("for d in six/test/*; do cp $d/1.png $d/2.png; done; cp -r $d six/test/zz && "
                "mkdir six/train/zz && cp six/train/${d##*/}/1.png six/train/zz") == 0);
    OSR(0, NULL, "jacobian ce --data folder:six --method fd --directions 3 --out twins");
    slurp("twins/norms.csv", file);
    const double one = norm_of(file, 0, 1), other = norm_of(file, 1, 1);
    CHECK(one > 0.0 && other > 0.0 && fabs(one / other - 1.0) > 1e-4);
    OSR(0, NULL, "jacobian ce --data folder:six --method exact --out twins");
    slurp("twins/norms.csv", file);
    CHECK_NEAR(norm_of(file, 0, 1) / norm_of(file, 1, 1), 1.0, 1e-6);
}

/* ---- osr represent ---- */

static void represent(void)
{
    OSR(0, NULL, TRAIN " --method difair --out difair");
    OSR(0, NULL, TRAIN " --method cac --out cac");
    OSR(0, NULL, "represent difair test:3 six/test/cor/1.png six/train/cor/1.png --class cor "
                 "--out rep --json");
    CHECK(json_ok(out) && has(out, "\"class\":\"cor\"") && has(out, "\"map_value\":\"mean\"")
          && has(out, "\"mean_from\":\"training images\""));
    check_svg("rep/test-3.svg", "where the features of cor fire", __LINE__);
    check_svg("rep/1.svg", "mean of cor", __LINE__);
    check_svg("rep/1-2.svg", "its features", __LINE__);
    slurp("rep/represent.json", file);
    CHECK(json_ok(file));
    OSR(0, NULL, "represent cac six/test/cor/1.png --out rep2 --json");
    CHECK(json_ok(out) && has(out, "\"mean_from\":\"its calibrated anchors\"")
          && has(out, "\"map_value\":\"sum + bias\""));
    check_svg("rep2/1.svg", "what each place adds", __LINE__);
    OSR(0, NULL, "represent movr test:0");
    CHECK(has(out, "<- shown") && has(out, "nearest to"));
    OSR(2, "did you mean cor?", "represent difair test:3 --class cot");
    OSR(2, "the test images of glyphs:180,80 are 0 to 79", "represent difair test:80");
    OSR(3, "nosuch.png", "represent difair nosuch.png");
    OSR(3, "nosuch", "represent difair test:1 --data idx:nosuch");
    OSR(6, "out/x: Not a directory", "represent difair test:1 --out out/x");
    OSR(6, "/dev/full/test-1.svg", "represent difair test:1 --out /dev/full");
    CHECK(shell("(\"$OSR_PROGRAM\" represent difair test:1 >/dev/full)") == 6);
}

/* The maps of every class against the values, for each kind of tail. */
static void maps(void)
{
    static const char *const models[] = {"difair", "cac", "ce", "movr"};
    uint64_t random = test_seed();
    float image[16 * 16];
    for (int i = 0; i < 256; ++i)
        image[i] = (float)test_uniform(&random);
    for (int n = 0; n < 4; ++n) {
        osr_ctx *ctx = NULL;
        osr_model *model = NULL;
        struct reader r;
        char path[64];
        snprintf(path, sizeof path, "%s/model.safetensors", models[n]);
        if (!CHECK(osr_ctx_create(NULL, &ctx) == OSR_OK
                   && osr_model_load(ctx, path, &model) == OSR_OK)) {
            osr_ctx_destroy(ctx);
            return;
        }
        reader_start(&r, model);
        for (int k = 0; k < r.classes; ++k) {
            struct reading m;
            CHECK(reading_take(&r, image, k, &m) == EXIT_OK);
            const int places = m.map_height * m.map_width;
            CHECK(m.map_count == r.columns && places >= 1 && m.shown == k);
            for (int f = 0; f < m.map_count; ++f) {
                double sum = 0.0;
                for (int i = 0; i < places; ++i)
                    sum += (double)m.maps[f * places + i];
                sum = m.map_is_mean ? sum / places : sum + m.bias;
                CHECK_NEAR(sum, (double)m.values[k * r.columns + f], 1e-4);
            }
            reading_free(&m);
        }
        reader_end(&r);
        osr_model_destroy(model);
        osr_ctx_destroy(ctx);
    }
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"distances by hand", distances_by_hand},
                 {"distances by brute force", distances_by_brute_force},
                 {"spreading", spreading}, {"axes", axes}, {"shapes", shapes},
                 {"moments", moments}, {"measured training", measured_training},
                 {"resumed training", resumed_training}, {"norms", norms},
                 {"comparison", comparison}, {"without unknown", without_unknown},
                 {"represent", represent}, {"maps", maps}};
    char work[] = "/tmp/osr-analysis-XXXXXX";
    if (getenv("OSR_PROGRAM") == NULL)
        return test_skip("OSR_PROGRAM does not name the program");
    setenv("ASAN_OPTIONS", "detect_leaks=0", 0); /* as in test_cli */
    if (!CHECK(mkdtemp(work) != NULL && chdir(work) == 0))
        return test_end();
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; ++i) {
        const int before = test_failures;
        parts[i].run();
        printf("%s %s\n", test_failures == before ? "passed" : "failed", parts[i].name);
        fflush(stdout);
    }
    CHECK(chdir("/") == 0);
    snprintf(command, sizeof command, "rm -r %s", work);
    CHECK(system(command) == 0);
    return test_end();
}

/* A stand-in for NVIDIA's driver: a real libnvidia-ml.so.1 that answers what a text file says.
 *
 * The file (environment STANDIN_SCRIPT, or standin_use(path)) is read again whenever it has changed. A line is
 *
 *     WHO KEY VALUE...      WHO: a device's index, * for every device without a line of its own, - for the driver
 *
 * KEY is a function's name without nvmlDeviceGet, with its arguments (ClockInfo.0), or field.NUMBER.SCOPE, gpm.METRIC and
 * so on, as below. VALUE is what it answers; !N makes it return error N; `hang` makes it hang until the line is another.
 * What has no line is not supported. `all !N` and `all hang` go before every other line of WHO.
 *
 * Written for these tests from the signatures and structures that nvidia-ml-py declares; it contains nothing of NVIDIA's.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { OK, UNINITIALIZED, INVALID, NOT_SUPPORTED, NOT_FOUND = 6, SMALL = 7, TIMEOUT = 10, LOST = 15 };
enum { DEVICES = 16, PARTS = 8, GENERATIONS = 64, SLOTS = 16384, TEXT = 4096, DRIVER = -1 };

typedef struct { int generation, index, part; } Handle; /* part: of a MIG device, else -1 */
typedef struct { char *who_key, *value; long calls; } Slot;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char script[4096];
static struct stat seen;
static Slot slots[SLOTS];
static struct timespec looked;
static int references, generation, told, any_all;
static long stale, allocated;
static Handle devices[GENERATIONS][DEVICES], parts[GENERATIONS][DEVICES][PARTS];

/* ---- the script ---- */

static Slot *slot(const char *who_key) {
    uint32_t hash = 2166136261u;
    for (const char *c = who_key; *c; c++) hash = (hash ^ (unsigned char)*c) * 16777619u;
    for (uint32_t i = hash;; i++) {
        Slot *s = &slots[i % SLOTS];
        if (!s->who_key) s->who_key = strdup(who_key);
        if (!strcmp(s->who_key, who_key)) return s;
    }
}

static void load(void) {
    struct timespec time;
    struct stat now;
    char line[65536], who[64], key[256], name[400];
    int begin;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    if (!told && time.tv_sec == looked.tv_sec && time.tv_nsec - looked.tv_nsec < 4000000) return;
    looked = time;
    told = 0;
    if (!*script && getenv("STANDIN_SCRIPT")) snprintf(script, sizeof script, "%s", getenv("STANDIN_SCRIPT"));
    if (stat(script, &now)) return;
    if (now.st_ino == seen.st_ino && now.st_size == seen.st_size && now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec &&
        now.st_mtim.tv_sec == seen.st_mtim.tv_sec)
        return;
    seen = now;
    any_all = 0;
    for (int i = 0; i < SLOTS; i++) {
        free(slots[i].value);
        slots[i].value = NULL;
    }
    FILE *file = fopen(script, "r");
    while (file && fgets(line, sizeof line, file)) {
        if (*line == '#' || sscanf(line, "%63s %255s %n", who, key, &begin) != 2) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(name, sizeof name, "%s %s", who, key);
        any_all |= !strcmp(key, "all");
        Slot *s = slot(name);
        free(s->value);
        s->value = strdup(line + begin);
    }
    if (file) fclose(file);
}

static const char *line_of(int index, const char *key) {
    char name[400];
    if (index == DRIVER)
        snprintf(name, sizeof name, "- %s", key);
    else
        snprintf(name, sizeof name, "%d %s", index, key);
    const char *value = slot(name)->value;
    if (value || index == DRIVER) return value;
    snprintf(name, sizeof name, "* %s", key);
    return slot(name)->value;
}

static const char *line_for(int index, const char *key) {
    const char *value = any_all ? line_of(DRIVER, "all") : NULL;
    if (!value && any_all && index != DRIVER) value = line_of(index, "all");
    return value ? value : line_of(index, key);
}

static void pause_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* Count the call and copy the line's value into `value`; returns what the function has to return. */
static int answer(int index, char *value, const char *format, ...) {
    char key[256], name[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(key, sizeof key, format, arguments);
    va_end(arguments);
    snprintf(name, sizeof name, "%d %s", index, key);
    pthread_mutex_lock(&lock);
    load();
    slot(name)->calls++;
    const char *line = line_for(index, key);
    while (line && !strcmp(line, "hang")) {
        pthread_mutex_unlock(&lock);
        pause_ms(2);
        pthread_mutex_lock(&lock);
        load();
        line = line_for(index, key);
    }
    int code = line ? *line == '!' ? atoi(line + 1) : OK : NOT_SUPPORTED;
    snprintf(value, TEXT, "%s", line ? line : "");
    pthread_mutex_unlock(&lock);
    return code;
}

/* Tell whether a handle is one of those given out since the driver was last opened. */
static int check(const Handle *handle) {
    if (!references) return UNINITIALIZED;
    if (!handle || handle->generation != generation) {
        stale++;
        return INVALID;
    }
    return OK;
}

/* ---- for the tests ---- */

void standin_use(const char *path) {
    pthread_mutex_lock(&lock);
    snprintf(script, sizeof script, "%s", path);
    memset(&seen, 0, sizeof seen);
    told = 1;
    for (int i = 0; i < SLOTS; i++) {
        free(slots[i].value);
        slots[i].value = NULL;
        slots[i].calls = 0;
    }
    stale = allocated = 0;
    pthread_mutex_unlock(&lock);
}

/* Say that the file has changed; without this it is looked at every few milliseconds. */
void standin_changed(void) {
    pthread_mutex_lock(&lock);
    told = 1;
    pthread_mutex_unlock(&lock);
}

/* How often a function was called for a device (-1: for the driver). */
long standin_calls(int index, const char *key) {
    char name[400];
    snprintf(name, sizeof name, "%d %s", index, key);
    pthread_mutex_lock(&lock);
    long calls = slot(name)->calls;
    pthread_mutex_unlock(&lock);
    return calls;
}

/* How many calls there were in all. */
long standin_all_calls(void) {
    long calls = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < SLOTS; i++) calls += slots[i].calls;
    pthread_mutex_unlock(&lock);
    return calls;
}

/* How often a handle was used that was void. */
long standin_stale(void) { return stale; }

/* How often it was initialised and not shut down. */
int standin_references(void) { return references; }

/* How many samples and sets of events were allocated and not freed. */
long standin_allocated(void) { return __atomic_load_n(&allocated, __ATOMIC_SEQ_CST); }

/* ---- memory that the caller owns; it is freed while the library is open ---- */

static void *allocate(size_t size) {
    __atomic_add_fetch(&allocated, 1, __ATOMIC_SEQ_CST);
    return calloc(1, size);
}

static int release(void *thing) {
    if (!references) return UNINITIALIZED;
    __atomic_add_fetch(&allocated, -1, __ATOMIC_SEQ_CST);
    free(thing);
    return OK;
}

/* ---- the driver as a whole ---- */

int nvmlInitWithFlags(unsigned flags) {
    char value[TEXT];
    (void)flags;
    int code = answer(DRIVER, value, "Init");
    if (code != OK && code != NOT_SUPPORTED) return code;
    pthread_mutex_lock(&lock);
    if (!references++) {
        generation++;
        for (int i = 0; i < DEVICES; i++) {
            devices[generation % GENERATIONS][i] = (Handle){generation, i, -1};
            for (int p = 0; p < PARTS; p++) parts[generation % GENERATIONS][i][p] = (Handle){generation, i, p};
        }
    }
    pthread_mutex_unlock(&lock);
    return OK;
}

int nvmlShutdown(void) {
    if (!references) return UNINITIALIZED;
    references--;
    return OK;
}

const char *nvmlErrorString(int code) {
    static char text[64];
    snprintf(text, sizeof text, "error %d of the stand-in", code);
    return text;
}

static int text_of(int index, char *out, unsigned size, const char *key) {
    char value[TEXT];
    int code = answer(index, value, "%s", key);
    if (code == OK) snprintf(out, size, "%s", value);
    return code;
}

int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    return references ? text_of(DRIVER, out, size, "DriverVersion") : UNINITIALIZED;
}

int nvmlDeviceGetCount_v2(unsigned *out) {
    char value[TEXT];
    if (!references) return UNINITIALIZED;
    int code = answer(DRIVER, value, "Count");
    if (code == OK) *out = (unsigned)atoi(value);
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle **out) {
    char value[TEXT];
    if (!references) return UNINITIALIZED;
    if (index >= DEVICES) return INVALID;
    int code = answer((int)index, value, "Handle");
    if (code != OK && code != NOT_SUPPORTED) return code;
    *out = &devices[generation % GENERATIONS][index];
    return OK;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *address, Handle **out) {
    if (!references) return UNINITIALIZED;
    for (unsigned index = 0; index < DEVICES; index++) {
        pthread_mutex_lock(&lock);
        load();
        const char *line = line_of((int)index, "PciInfo");
        int found = line && !strcasecmp(line + strlen(line) - 10, address + strlen(address) - 10);
        pthread_mutex_unlock(&lock);
        if (found) return nvmlDeviceGetHandleByIndex_v2(index, out);
    }
    return NOT_FOUND;
}

/* ---- one device: texts and numbers ---- */

static int numbers(const Handle *handle, int count, unsigned long long *out, const char *key, int argument) {
    char value[TEXT], *rest = value;
    int code = check(handle);
    if (code) return code;
    char prefix[32] = "";
    if (handle->part >= 0) snprintf(prefix, sizeof prefix, "mig.%d.", handle->part);
    code = argument < 0 ? answer(handle->index, value, "%s%s", prefix, key)
                        : answer(handle->index, value, "%s%s.%d", prefix, key, argument);
    for (int i = 0; code == OK && i < count; i++) out[i] = strtoull(rest, &rest, 10);
    return code;
}

static int text(const Handle *handle, char *out, unsigned size, const char *key) {
    char name[128];
    int code = check(handle);
    if (code) return code;
    if (handle->part < 0) return text_of(handle->index, out, size, key);
    snprintf(name, sizeof name, "mig.%d.%s", handle->part, key);
    return text_of(handle->index, out, size, name);
}

#define TEXT_OF(NAME) \
    int nvmlDeviceGet##NAME(Handle *handle, char *out, unsigned size) { return text(handle, out, size, #NAME); }
#define NUMBER(NAME, KEY, TYPE)                            \
    int nvmlDeviceGet##NAME(Handle *handle, TYPE *out) {   \
        unsigned long long read[1];                        \
        int code = numbers(handle, 1, read, KEY, -1);      \
        if (code == OK) *out = (TYPE)read[0];              \
        return code;                                       \
    }
#define NUMBER_OF(NAME, KEY)                                                  \
    int nvmlDeviceGet##NAME(Handle *handle, unsigned argument, unsigned *out) { \
        unsigned long long read[1];                                           \
        int code = numbers(handle, 1, read, KEY, (int)argument);              \
        if (code == OK) *out = (unsigned)read[0];                             \
        return code;                                                          \
    }
#define PAIR(NAME)                                                            \
    int nvmlDeviceGet##NAME(Handle *handle, unsigned *first, unsigned *second) { \
        unsigned long long read[2];                                           \
        int code = numbers(handle, 2, read, #NAME, -1);                       \
        if (code == OK) *first = (unsigned)read[0], *second = (unsigned)read[1]; \
        return code;                                                          \
    }

TEXT_OF(UUID)
TEXT_OF(Name)
TEXT_OF(VbiosVersion)
NUMBER(PowerUsage, "PowerUsage", unsigned)
NUMBER(EnforcedPowerLimit, "EnforcedPowerLimit", unsigned)
NUMBER(TotalEnergyConsumption, "TotalEnergyConsumption", unsigned long long)
NUMBER(NumFans, "NumFans", unsigned)
NUMBER(PerformanceState, "PerformanceState", unsigned)
NUMBER(CurrPcieLinkGeneration, "CurrPcieLinkGeneration", unsigned)
NUMBER(CurrPcieLinkWidth, "CurrPcieLinkWidth", unsigned)
NUMBER(MaxPcieLinkGeneration, "MaxPcieLinkGeneration", unsigned)
NUMBER(MaxPcieLinkWidth, "MaxPcieLinkWidth", unsigned)
NUMBER(PcieReplayCounter, "PcieReplayCounter", unsigned)
NUMBER(RetiredPagesPendingStatus, "RetiredPagesPendingStatus", unsigned)
NUMBER(SupportedClocksEventReasons, "SupportedClocksEventReasons", unsigned long long)
NUMBER(CurrentClocksEventReasons, "CurrentClocksEventReasons", unsigned long long)
NUMBER(SupportedClocksThrottleReasons, "SupportedClocksThrottleReasons", unsigned long long)
NUMBER(CurrentClocksThrottleReasons, "CurrentClocksThrottleReasons", unsigned long long)
NUMBER(SupportedEventTypes, "SupportedEventTypes", unsigned long long)
NUMBER(MaxMigDeviceCount, "MaxMigDeviceCount", unsigned)
NUMBER(GpuInstanceId, "GpuInstanceId", unsigned)
NUMBER_OF(FanSpeed_v2, "FanSpeed")
NUMBER_OF(ClockInfo, "ClockInfo")
NUMBER_OF(MaxClockInfo, "MaxClockInfo")
NUMBER_OF(Temperature, "OldTemperature")
NUMBER_OF(TemperatureThreshold, "TemperatureThreshold")
NUMBER_OF(NvLinkState, "NvLinkState")
PAIR(EncoderUtilization)
PAIR(DecoderUtilization)
PAIR(CudaComputeCapability)
PAIR(EccMode)
PAIR(MigMode)

int nvmlDeviceGetIndex(Handle *handle, unsigned *out) {
    int code = check(handle);
    if (code == OK) *out = (unsigned)handle->index;
    return code;
}

int nvmlDeviceGetUtilizationRates(Handle *handle, unsigned *out) {
    unsigned long long read[2];
    int code = numbers(handle, 2, read, "UtilizationRates", -1);
    if (code == OK) out[0] = (unsigned)read[0], out[1] = (unsigned)read[1];
    return code;
}

struct temperature { unsigned version, sensor; int celsius; };
int nvmlDeviceGetTemperatureV(Handle *handle, struct temperature *out) {
    unsigned long long read[1];
    int code = numbers(handle, 1, read, "Temperature", (int)out->sensor);
    if (code == OK) out->celsius = (int)read[0];
    return code;
}

struct margin { unsigned version; int celsius; };
int nvmlDeviceGetMarginTemperature(Handle *handle, struct margin *out) {
    unsigned long long read[1];
    int code = numbers(handle, 1, read, "MarginTemperature", -1);
    if (code == OK) out->celsius = (int)read[0];
    return code;
}

struct pci { char legacy[16]; unsigned domain, bus, device, ids, subsystem; char address[32]; };
int nvmlDeviceGetPciInfo_v3(Handle *handle, struct pci *out) {
    return text(handle, out->address, sizeof out->address, "PciInfo");
}

struct memory { unsigned long long total, free, used; };
int nvmlDeviceGetMemoryInfo(Handle *handle, struct memory *out) {
    unsigned long long read[4];
    int code = numbers(handle, 3, read, "MemoryInfo", -1);
    if (code == OK) *out = (struct memory){read[0], read[2], read[1]};
    return code;
}

struct memory_v2 { unsigned version; unsigned long long total, reserved, free, used; };
int nvmlDeviceGetMemoryInfo_v2(Handle *handle, struct memory_v2 *out) {
    unsigned long long read[4];
    int code = numbers(handle, 4, read, "MemoryInfo_v2", -1); /* total used free reserved */
    if (code == OK) *out = (struct memory_v2){out->version, read[0], read[3], read[2], read[1]};
    return code;
}

int nvmlDeviceGetTotalEccErrors(Handle *handle, unsigned kind, unsigned life, unsigned long long *out) {
    char key[64];
    snprintf(key, sizeof key, "TotalEccErrors.%u", kind);
    return numbers(handle, 1, out, key, (int)life);
}

int nvmlDeviceGetRemappedRows(Handle *handle, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
    unsigned long long read[4];
    int code = numbers(handle, 4, read, "RemappedRows", -1);
    if (code == OK) *a = (unsigned)read[0], *b = (unsigned)read[1], *c = (unsigned)read[2], *d = (unsigned)read[3];
    return code;
}

struct violation { unsigned long long reference, nanoseconds; };
int nvmlDeviceGetViolationStatus(Handle *handle, unsigned policy, struct violation *out) {
    return numbers(handle, 1, &out->nanoseconds, "ViolationStatus", (int)policy);
}

/* ---- fields: a value is N (64 bits), u:N (32 bits), s:N (signed) or d:X ---- */

union value { double d; unsigned u; unsigned long long ull; long long sll; };
struct field {
    unsigned number, scope;
    long long timestamp, latency;
    unsigned type, code;
    union value value;
};

int nvmlDeviceGetFieldValues(Handle *handle, int count, struct field *fields) {
    char value[TEXT];
    int code = check(handle);
    if (code) return code;
    code = answer(handle->index, value, "FieldValues");
    if (code != OK && code != NOT_SUPPORTED) return code;
    for (int i = 0; i < count; i++) {
        struct field *f = &fields[i];
        f->code = (unsigned)answer(handle->index, value, "field.%u.%u", f->number, f->scope);
        if (f->code) continue;
        char kind = value[1] == ':' ? value[0] : 'l';
        f->type = kind == 'd' ? 0 : kind == 'u' ? 1 : kind == 's' ? 4 : 3;
        if (kind == 'd') f->value.d = atof(value + 2);
        else if (kind == 'u') f->value.ull = 0xABCDABCD00000000ULL, f->value.u = (unsigned)strtoul(value + 2, NULL, 10);
        else if (kind == 's') f->value.sll = atoll(value + 2);
        else f->value.ull = strtoull(value, NULL, 10);
    }
    return OK;
}

/* ---- samples: TIME:VALUE TIME:VALUE ..., oldest first ---- */

struct sample { unsigned long long time; union value value; };

int nvmlDeviceGetSamples(Handle *handle, unsigned kind, unsigned long long since, unsigned *type, unsigned *count,
                         struct sample *out) {
    char value[TEXT], *rest = value;
    int code = check(handle);
    if (code) return code;
    code = answer(handle->index, value, "Samples.%u", kind);
    if (code) return code;
    unsigned all = 0, newer = 0;
    *type = 1;
    while (*rest) {
        unsigned long long time = strtoull(rest, &rest, 10);
        unsigned read = (unsigned)strtoul(rest + 1, &rest, 10);
        while (*rest == ' ') rest++;
        all++;
        if (time <= since) continue;
        if (out && newer < *count) out[newer].time = time, out[newer].value.u = read;
        newer++;
    }
    if (!newer) return NOT_FOUND;
    *count = out ? newer : all;
    return OK;
}

/* ---- processes: PID:BYTES:INSTANCE PID:-: ...; - is 'not available', an empty instance is none ---- */

struct process { unsigned pid; unsigned long long memory; unsigned instance, compute; };

static int processes(Handle *handle, unsigned *count, struct process *out, const char *key) {
    char value[TEXT], *word, *state;
    int code = check(handle);
    if (code) return code;
    code = answer(handle->index, value, "%s", key);
    if (code) return code;
    unsigned found = 0;
    for (word = strtok_r(value, " ", &state); word; word = strtok_r(NULL, " ", &state)) {
        char *memory = strchr(word, ':') + 1, *instance = strchr(memory, ':') + 1;
        if (out && found < *count)
            out[found] = (struct process){(unsigned)atoi(word), *memory == '-' ? ~0ULL : strtoull(memory, NULL, 10),
                                          *instance ? (unsigned)atoi(instance) : ~0u, ~0u};
        found++;
    }
    int small = found && (!out || *count < found);
    *count = found;
    return small ? SMALL : OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Handle *h, unsigned *n, struct process *out) {
    return processes(h, n, out, "ComputeRunningProcesses");
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(Handle *h, unsigned *n, struct process *out) {
    return processes(h, n, out, "GraphicsRunningProcesses");
}
int nvmlDeviceGetMPSComputeRunningProcesses_v3(Handle *h, unsigned *n, struct process *out) {
    return processes(h, n, out, "MPSComputeRunningProcesses");
}

/* ---- MIG: mig.PART.KEY lines of the device; a part is there when it has mig.PART.GpuInstanceId ---- */

int nvmlDeviceGetMigDeviceHandleByIndex(Handle *handle, unsigned part, Handle **out) {
    char value[TEXT];
    int code = check(handle);
    if (code) return code;
    if (part >= PARTS || answer(handle->index, value, "mig.%u.GpuInstanceId", part)) return NOT_FOUND;
    *out = &parts[generation % GENERATIONS][handle->index][part];
    return OK;
}

/* ---- events: `- events SEQUENCE:DEVICE:TYPE:DATA ...`; a set is given those numbered above what it had, and fails
 * while one of its devices is lost ---- */

typedef struct { int generation; long given; unsigned long long registered[DEVICES]; } Set;
struct event { Handle *device; unsigned long long type, data; unsigned instance, compute; };

int nvmlEventSetCreate(Set **out) {
    char value[TEXT];
    if (!references) return UNINITIALIZED;
    int code = answer(DRIVER, value, "EventSetCreate");
    if (code != OK && code != NOT_SUPPORTED) return code;
    *out = allocate(sizeof **out);
    (*out)->generation = generation;
    return OK;
}

static int is_lost(int index) {
    pthread_mutex_lock(&lock);
    load();
    const char *line = line_for(index, "EventSetWait");
    int lost = line && atoi(line + (*line == '!')) == LOST;
    pthread_mutex_unlock(&lock);
    return lost;
}

int nvmlEventSetFree(Set *set) { return release(set); }

int nvmlDeviceRegisterEvents(Handle *handle, unsigned long long types, Set *set) {
    char value[TEXT];
    int code = check(handle);
    if (code) return code;
    code = answer(handle->index, value, "RegisterEvents");
    if (code == OK) set->registered[handle->index] |= types;
    return code;
}

int nvmlEventSetWait_v2(Set *set, struct event *out, unsigned timeout_ms) {
    char value[TEXT], *state, *word;
    for (unsigned waited = 0;; waited += 2) {
        if (!references || set->generation != generation) return UNINITIALIZED;
        int code = answer(DRIVER, value, "events");
        if (code && code != NOT_SUPPORTED) return code;
        for (word = strtok_r(value, " ", &state); word; word = strtok_r(NULL, " ", &state)) {
            long sequence;
            int index;
            unsigned long long type, data;
            if (sscanf(word, "%ld:%d:%llu:%llu", &sequence, &index, &type, &data) != 4) continue;
            if (sequence <= set->given || !(set->registered[index] & type)) continue;
            set->given = sequence;
            *out = (struct event){&devices[generation % GENERATIONS][index], type, data, ~0u, ~0u};
            return OK;
        }
        for (int i = 0; i < DEVICES; i++)
            if (set->registered[i] && is_lost(i)) return LOST;
        if (waited >= timeout_ms) return TIMEOUT;
        pause_ms(2);
    }
}

/* ---- GPM ---- */

typedef struct { int index, part; long sequence; } Sample;
struct support { unsigned version, supported; };
struct metric { unsigned id, code; double value; const char *names[3]; };
struct request { unsigned version, count; Sample *first, *second; struct metric metrics[]; };

int nvmlGpmQueryDeviceSupport(Handle *handle, struct support *out) {
    unsigned long long read[1];
    int code = numbers(handle, 1, read, "GpmSupport", -1);
    if (code == OK) out->supported = (unsigned)read[0];
    return code;
}

int nvmlGpmSampleAlloc(Sample **out) {
    *out = allocate(sizeof **out);
    (*out)->index = -1;
    return OK;
}

int nvmlGpmSampleFree(Sample *sample) { return release(sample); }

static long next_sequence(void) {
    static long sequence;
    return __atomic_add_fetch(&sequence, 1, __ATOMIC_SEQ_CST);
}

int nvmlGpmSampleGet(Handle *handle, Sample *sample) {
    char value[TEXT];
    int code = check(handle);
    if (code) return code;
    code = answer(handle->index, value, "GpmSampleGet");
    if (code && code != NOT_SUPPORTED) return code;
    *sample = (Sample){handle->index, -1, next_sequence()};
    return OK;
}

int nvmlGpmMigSampleGet(Handle *handle, unsigned instance, Sample *sample) {
    int code = check(handle);
    if (code == OK) *sample = (Sample){handle->index, (int)instance, next_sequence()};
    return code;
}

int nvmlGpmMetricsGet(struct request *request) {
    char value[TEXT];
    Sample *first = request->first, *second = request->second;
    if (request->version != 1 || first->index < 0 || first->index != second->index || first->part != second->part ||
        first->sequence >= second->sequence)
        return INVALID;
    for (unsigned i = 0; i < request->count; i++) {
        struct metric *m = &request->metrics[i];
        m->code = (unsigned)(first->part < 0 ? answer(first->index, value, "gpm.%u", m->id)
                                             : answer(first->index, value, "instance.%d.gpm.%u", first->part, m->id));
        m->value = m->code ? -1 : atof(value);
    }
    return OK;
}

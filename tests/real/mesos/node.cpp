// Runs a Mesos master or agent out of the pre-built Mesos 1.11.0 library.
//
//   mesos-node master    a master with no agents
//   mesos-node agent     an agent that joins the master named by MESOS_MASTER
//   mesos-containerizer  the same program under the name by which an agent
//                        starts it to set up a container
//
// Settings are read from MESOS_* and LIBPROCESS_* environment variables.
//
// The library comes without headers, so what is called is declared here:
// function and type names are the ones it exports; the layouts (Option, Try,
// object sizes) hold for that one build, pinned in `mesos-fetch.sh`.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <typeinfo>
#include <unistd.h>

using std::string;

// An absent or present string, as the library lays it out. Absent values of
// any other type start with the same word, 1.
struct OptionalString
{
  OptionalString() : absent(1), unused() {}
  OptionalString(const string& s) : absent(0), value(s) {}
  ~OptionalString() { if (!absent) value.~string(); }

  int absent;
  union { string value; char unused[256]; };
};

// What the library returns from calls that can fail: a value or an error.
template <typename T>
struct Try
{
  ~Try() {}

  T get(const char* what) const
  {
    if (failed) {
      fprintf(stderr, "%s: %s\n", what, error.c_str());
      exit(EXIT_FAILURE);
    }
    return value;
  }

  int failed;
  T value;
  int noError;
  union { string error; };
};

template <typename T> class Option;
class Duration;

namespace flags {
struct Warnings { void* storage[3]; };

struct FlagsBase
{
  Try<Warnings> load(
      const Option<string>& prefix,
      int argc,
      const char* const* argv,
      bool unknowns,
      bool duplicates);
};
}

namespace process {
struct ProcessBase;
struct UPID { ~UPID(); char storage[1024]; };
template <typename T> struct Owned;
namespace network {
namespace unix { class Address; }
namespace internal { template <typename T> class Socket; }
}

bool initialize(
    const Option<string>& delegate,
    const Option<string>& readwriteRealm,
    const Option<string>& readonlyRealm);
UPID spawn(ProcessBase* process, bool manage);
namespace ID { string generate(const string& prefix); }
}

namespace mesos {
class Authorizer;
class SecretGenerator;
struct SecretResolver
{
  static Try<SecretResolver*> create(const Option<string>& name);
};

namespace allocator { class Allocator; }

namespace master { namespace detector {
struct MasterDetector
{
  static Try<MasterDetector*> create(
      const Option<string>& master,
      const Option<string>& module,
      const Option<Duration>& zkSessionTimeout);
};
}}

namespace slave {
struct ResourceEstimator
{
  static Try<ResourceEstimator*> create(const Option<string>& name);
};
struct QoSController
{
  static Try<QoSController*> create(const Option<string>& name);
};
}

namespace internal {
class PendingFutureTracker;
struct VersionProcess { VersionProcess(); char storage[4096]; };
struct Files
{
  Files(const Option<string>& realm, const Option<Authorizer*>& authorizer);
  char storage[256];
};

namespace logging {
class Flags;
void initialize(const string& name, bool catchSignals, const Option<Flags>&);
}

namespace local {
struct Flags { Flags(); char storage[4096]; };
process::UPID launch(const Flags& flags, allocator::Allocator* allocator);
}

namespace slave {
class VolumeGidManager;
class CSIServer;
struct Flags { Flags(); char storage[65536]; };
struct Fetcher { Fetcher(const Flags& flags); char storage[256]; };
struct GarbageCollector { GarbageCollector(const string&); char storage[256]; };
struct TaskStatusUpdateManager
{
  TaskStatusUpdateManager(const Flags& flags);
  char storage[256];
};
struct Containerizer
{
  static Try<Containerizer*> create(
      const Flags& flags,
      bool local,
      Fetcher* fetcher,
      GarbageCollector* gc,
      mesos::SecretResolver* secretResolver,
      VolumeGidManager* volumeGidManager,
      PendingFutureTracker* tracker,
      CSIServer* csi);
};
struct Slave
{
  Slave(
      const string& id,
      const Flags& flags,
      mesos::master::detector::MasterDetector* detector,
      Containerizer* containerizer,
      Files* files,
      GarbageCollector* gc,
      TaskStatusUpdateManager* updates,
      mesos::slave::ResourceEstimator* estimator,
      mesos::slave::QoSController* qosController,
      mesos::SecretGenerator* secretGenerator,
      VolumeGidManager* volumeGidManager,
      PendingFutureTracker* tracker,
      process::Owned<CSIServer>&& csi,
      const Option<process::network::internal::Socket<
          process::network::unix::Address>>& executorSocket,
      const Option<mesos::Authorizer*>& authorizer);
  char storage[65536];
};
struct MesosContainerizerLaunch
{
  struct Flags { Flags(); char storage[4096]; };
  flags::FlagsBase* getFlags();
  int execute();
};
}
}
}

extern "C" {
extern const char flagsBaseType[] asm("_ZTIN5flags9FlagsBaseE");
extern const char processBaseType[] asm("_ZTIN7process11ProcessBaseE");
}

namespace {

const OptionalString absent;

template <typename T>
const Option<T>& none()
{
  return reinterpret_cast<const Option<T>&>(absent);
}

const Option<string>& some(const OptionalString& s)
{
  return reinterpret_cast<const Option<string>&>(s);
}

// Finds the (virtual) base of an object of the library by its run-time type.
template <typename Base>
Base* upcast(void* object, const char* baseType)
{
  const std::type_info* type =
    (*reinterpret_cast<const std::type_info***>(object))[-1];
  const void* base = baseType;
  if (!type->__do_upcast(
          static_cast<const __cxxabiv1::__class_type_info*>(base), &object)) {
    fprintf(stderr, "The library is not the build this program is for\n");
    abort();
  }
  return static_cast<Base*>(object);
}

template <typename Flags>
void load(
    Flags* flags, const char* prefix, int argc, char** argv, bool unknowns)
{
  upcast<flags::FlagsBase>(flags, flagsBaseType)->load(
      some(string(prefix)), argc, argv, unknowns, false).get("Bad settings");
}

template <typename Process>
void spawn(Process* process)
{
  process::spawn(upcast<process::ProcessBase>(process, processBaseType), false);
}

void initialize(const string& id, const string& role)
{
  mesos::internal::logging::initialize(
      "mesos-" + role, true, none<mesos::internal::logging::Flags>());
  process::initialize(
      some(id),
      some("mesos-" + role + "-readwrite"),
      some("mesos-" + role + "-readonly"));
  spawn(new mesos::internal::VersionProcess());
}

void master(int argc, char** argv)
{
  auto* flags = new mesos::internal::local::Flags();
  load(flags, "MESOS_", argc, argv, true);
  initialize("master", "master");
  mesos::internal::local::launch(*flags, nullptr);
}

void agent(int argc, char** argv)
{
  using namespace mesos::internal;
  using namespace mesos::internal::slave;

  const char* masterAddress = getenv("MESOS_MASTER");
  const char* workDir = getenv("MESOS_WORK_DIR");
  if (!masterAddress || !workDir) {
    fprintf(stderr, "MESOS_MASTER and MESOS_WORK_DIR must be set\n");
    exit(EXIT_FAILURE);
  }

  auto* flags = new slave::Flags();
  load(flags, "MESOS_", argc, argv, false);

  const string id = process::ID::generate("slave");
  initialize(id, "agent");

  auto* fetcher = new Fetcher(*flags);
  auto* gc = new GarbageCollector(workDir);
  auto secretResolver = mesos::SecretResolver::create(none<string>());
  auto containerizer = Containerizer::create(
      *flags,
      false,
      fetcher,
      gc,
      secretResolver.get("Secret resolver"),
      nullptr,
      nullptr,
      nullptr);
  auto detector = mesos::master::detector::MasterDetector::create(
      some(string(masterAddress)), none<string>(), none<Duration>());
  auto estimator = mesos::slave::ResourceEstimator::create(none<string>());
  auto qosController = mesos::slave::QoSController::create(none<string>());
  void* noCsi[2] = {};

  spawn(new Slave(
      id,
      *flags,
      detector.get("Master detector"),
      containerizer.get("Containerizer"),
      new Files(
          some(string("mesos-agent-readonly")), none<mesos::Authorizer*>()),
      gc,
      new TaskStatusUpdateManager(*flags),
      estimator.get("Resource estimator"),
      qosController.get("QoS controller"),
      nullptr,
      nullptr,
      nullptr,
      reinterpret_cast<process::Owned<CSIServer>&&>(noCsi),
      none<process::network::internal::Socket<
          process::network::unix::Address>>(),
      none<mesos::Authorizer*>()));
}

int containerizer(int argc, char** argv)
{
  using mesos::internal::slave::MesosContainerizerLaunch;

  if (argc < 2 || strcmp(argv[1], "launch") != 0) {
    fprintf(stderr, "Only the 'launch' subcommand is available\n");
    return EXIT_FAILURE;
  }

  // The library has no constructor for this one. All it needs is its flags,
  // which start at some distance before the base that getFlags() points to.
  using Flags = MesosContainerizerLaunch::Flags;
  alignas(16) static char storage[65536];
  auto* launch = reinterpret_cast<MesosContainerizerLaunch*>(storage);
  Flags probe;
  auto distance =
    reinterpret_cast<char*>(
        upcast<flags::FlagsBase>(&probe, flagsBaseType)) -
    reinterpret_cast<char*>(&probe);
  auto* flags = new (reinterpret_cast<char*>(launch->getFlags()) - distance)
    Flags();

  load(flags, "MESOS_CONTAINERIZER_", argc - 1, argv + 1, false);
  return launch->execute();
}

}  // namespace

int main(int argc, char** argv)
{
  const char* slash = strrchr(argv[0], '/');
  if (strcmp(slash ? slash + 1 : argv[0], "mesos-containerizer") == 0) {
    return containerizer(argc, argv);
  }

  const string role = argc > 1 ? argv[1] : "";
  if (role == "master") {
    master(argc - 1, argv + 1);
  } else if (role == "agent") {
    agent(argc - 1, argv + 1);
  } else {
    fprintf(stderr, "Usage: mesos-node master|agent\n");
    return EXIT_FAILURE;
  }

  // The actors run in threads of the library.
  for (;;) pause();
}

"""What the clients of Apache Cotton did with a cluster in ZooKeeper, over kazoo and without any code of ours.

    cotton_client.py resolve zk://host:port,.../path/discover/cluster    the primary, once there is one
    cotton_client.py watch   zk://...                                    each change of it, until the cluster is gone
    cotton_client.py wait    zk://...                                    until the cluster is gone

Each line of output is JSON: {"master": "host:port"}, {"master": null} or "terminated". It fails when it ever sees two primaries or
data that is not a member's.
"""

import json
import os
import queue
import sys

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError


def parse_url(url):
    scheme = "zk://"
    if not url.startswith(scheme):
        raise ValueError("Expecting 'zk://' at the beginning of the URL")
    servers, _, path = url.lstrip(scheme).partition("/")  # as they did it: takes any of these characters away
    return servers, "/" + path.rstrip("/")


def endpoint(data):
    """Like the readers of Cotton: what they require must be there."""
    member = json.loads(data.decode("utf-8"))
    if member["status"] != "ALIVE" or member["additionalEndpoints"] != {}:
        raise ValueError("not a living member: %r" % member)
    return "%s:%d" % (member["serviceEndpoint"]["host"], member["serviceEndpoint"]["port"])


class Reader:
    def __init__(self, url):
        servers, self.path = parse_url(url)
        self.client = KazooClient(hosts=servers, timeout=10)
        self.client.start(timeout=30)
        self.news = queue.Queue()

    def wake(self, _event):
        self.news.put(None)

    def is_there(self):
        return self.client.exists(self.path, watch=self.wake) is not None

    def master(self):
        """The primary now; the watch tells when to look again."""
        group = self.path + "/master"
        while True:
            if self.client.exists(group, watch=self.wake) is None:
                return None
            try:
                names = self.client.get_children(group, watch=self.wake)
                if len(names) > 1:
                    raise AssertionError("two primaries at once: %r" % names)
                if not names:
                    return None
                if not names[0].startswith("member_"):
                    raise AssertionError("not a member: %r" % names)
                return endpoint(self.client.get(group + "/" + names[0])[0])
            except NoNodeError:
                continue  # gone between listing and reading: look again


def say(what):
    print(json.dumps(what), flush=True)


def main(command, url):
    reader = Reader(url)
    if command == "wait":
        while reader.is_there():
            reader.news.get()
        say("terminated")
        return
    last, has_been = object(), False
    while True:
        has_been = has_been or reader.is_there()
        master = reader.master()
        if command == "resolve":
            if master is not None:
                say({"master": master})
                return
        elif has_been:
            if not reader.is_there():
                say("terminated")
                return
            if master != last:
                last = master
                say({"master": master})
        reader.news.get()


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # kazoo's threads need not be waited for

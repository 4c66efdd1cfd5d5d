#!/bin/bash
# Unpack a server for tests out of Debian's packages, without installing anything on the host: the
# packages and every library they need are downloaded with apt (own configuration, own lists,
# signatures checked), only unpacked, and run through the libraries they came with.
#
#   unpack-debian.sh NAME SUITE PACKAGES [ALONE]
#
# Makes the directory NAME in the cache and prints its bin directory. PACKAGES come with all that they
# depend on, those in ALONE without.
#
# COTTON_MYSQL_CACHE   where to keep it     (default ~/.cache/cotton-mysql)
# COTTON_DEBIAN_URI    Debian archive base URI (default: the one apt already uses)
set -euo pipefail
name=$1 suite=$2 pkgs=$3 alone=${4-}
cache=${COTTON_MYSQL_CACHE:-$HOME/.cache/cotton-mysql}
dest=$cache/$name
is_there() { [ -x "$dest/bin/mysqld" ] || [ -x "$dest/bin/mariadbd" ]; }
if is_there; then echo "$dest/bin"; exit 0; fi

deb_uri=${COTTON_DEBIAN_URI:-$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN)' 2>/dev/null |
    awk '$2=="Debian" && $1 !~ /security/ {print $1; exit}')}
: "${deb_uri:?no Debian archive known to apt: run apt-get update once, or set COTTON_DEBIAN_URI}"
deb_key=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$cache"
exec 9>"$cache/.lock"; flock 9          # one fetch at a time
if is_there; then echo "$dest/bin"; exit 0; fi
work=$(mktemp -d "$cache/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT

# aptdir NAME LINE...: a private apt root with these sources
aptdir() {
    local d=$work/$1; shift
    mkdir -p "$d"/lists/partial "$d"/cache/archives/partial "$d"/debs; : >"$d/status"
    printf '%s\n' "$@" >"$d/sources.list"
    cat >"$d/apt.conf" <<C
Dir::Etc::sourcelist "$d/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$d"; Dir::State::status "$d/status"; Dir::State::lists "$d/lists";
Dir::Cache "$d/cache";
Acquire::Languages "none"; APT::Install-Recommends "false";
C
    if [ "$(id -u)" = 0 ]; then echo 'APT::Sandbox::User "root";' >>"$d/apt.conf"; fi
    APT_CONFIG=$d/apt.conf apt-get -q -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false update >&2
}
aptdir main "deb [signed-by=$deb_key] $deb_uri $suite main"

export APT_CONFIG=$work/main/apt.conf
# shellcheck disable=SC2086
list=$(apt-get -s install $pkgs | awk '/^Inst /{print $2}' | grep -vE '^(perl|libperl|python|libpython|debconf|systemd|udev|init|adduser|passwd|ucf|lsb|dpkg|tar|coreutils|bash|dash|sed|grep|rsync)' || true)
(cd "$work/main/debs" && apt-get -q download $list $alone >&2)
mkdir -p "$work/out/root" "$work/out/bin"
for d in "$work"/main/debs/*.deb; do dpkg -x "$d" "$work/out/root"; done
rm -rf "$work"/out/root/usr/share/{doc,man,locale,lintian,bug}

cat >"$work/out/run" <<'W'
#!/bin/sh
# run PROGRAM [ARG...]: a program of this root with this root's libraries
R=$(dirname "$(readlink -f "$0")")/root
a=x86_64-linux-gnu; L=
for d in lib/$a usr/lib/$a lib usr/lib usr/lib/mysql/private; do L=$L${L:+:}$R/$d; done
for l in "$R/lib64/ld-linux-x86-64.so.2" "$R/usr/lib64/ld-linux-x86-64.so.2" "$R/lib/$a/ld-linux-x86-64.so.2" "$R/usr/lib/$a/ld-linux-x86-64.so.2" "$R/lib/$a"/ld-2.*.so; do
    # absolute links inside the root would lead to the host's loader
    [ -f "$l" ] && case $(readlink -f "$l") in "$R"/*) break ;; esac
done
p=$1; shift
case $p in
*/mysqld | */mariadbd) set -- "$@" --basedir="$R/usr" --plugin-dir="$R/usr/lib/mysql/plugin" ;;
esac
share=$R/usr/share/mysql
[ -d "$share" ] || share=$R/usr/share/mariadb
case $p in
*/mysqld | */mariadbd) set -- "$@" --lc-messages-dir="$share" --character-sets-dir="$share/charsets" ;;
*/mysql | */mysqldump | */mysqlbinlog | */mysqladmin | */mariadb) set -- "$@" --character-sets-dir="$share/charsets" ;;
esac
exec "$l" --library-path "$L" "$R/$p" "$@"
W
chmod 755 "$work/out/run"
for p in usr/sbin/{mysqld,mariadbd} \
    usr/bin/{mysql,mysqldump,mysqlbinlog,mysqladmin,xtrabackup,xbstream,mariadb,mariadb-backup,mbstream}; do
    # MariaDB has links with MySQL's names; the program beside one tells what is there
    if [ -f "$work/out/root/$p" ] && [ ! -L "$work/out/root/$p" ]; then
        printf '#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/../run" %s "$@"\n' "$p" >"$work/out/bin/${p##*/}"
        chmod 755 "$work/out/bin/${p##*/}"
    fi
done
if [ -f "$work/out/root/usr/bin/mariadb-install-db" ]; then
    # a script: the server is told to it, its other program is hidden behind one that finds its libraries
    (
        cd "$work/out/root/usr/bin"
        mkdir -p ../libexec && mv my_print_defaults ../libexec/
        cat >my_print_defaults <<'W'
#!/bin/sh
exec "$(dirname "$(readlink -f "$0")")/../../../run" usr/libexec/my_print_defaults "$@"
W
        chmod 755 my_print_defaults
    )
    cat >"$work/out/bin/mariadb-install-db" <<'W'
#!/bin/sh
top=$(dirname "$(dirname "$(readlink -f "$0")")")
MYSQLD_BOOTSTRAP=$top/bin/mariadbd exec "$top/root/usr/bin/mariadb-install-db" "$@" --basedir="$top/root/usr"
W
    chmod 755 "$work/out/bin/mariadb-install-db"
fi
ls "$work/main/debs" >"$work/out/packages.txt"
chmod 755 "$work/out"
rm -rf "$dest"; mv "$work/out" "$dest"
echo "$dest/bin"

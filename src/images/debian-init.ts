/** The texts of the image `debian`: what its initramfs runs and shows. */

/**
 * Process 1. It sets the system up, starts the session, and ends the system when told to.
 * BusyBox's poweroff, reboot and halt tell process 1 by a signal; `wait` is what lets the traps run at once. A shell's
 * background jobs ignore SIGINT and so would all that the user starts, so the session is started as a daemon.
 * Drivers are loaded by what the buses report, so that an empty bus costs nothing; virtio devices appear only when
 * their bus driver is loaded, hence two rounds.
 */
export const INIT_SCRIPT = `#!/bin/sh
export PATH=/bin HOME=/root
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid,mode=0755 devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o nosuid,noexec,mode=0620,ptmxmode=0666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=0755 tmpfs /run
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /tmp

end() {
  sync
  umount -a -r 2>/dev/null
  $1 -f
}
trap 'end halt' USR1
trap 'end poweroff' USR2
trap 'end reboot' TERM

hostname debian
ip link set lo up 2>/dev/null

for round in 1 2; do
  names=
  for file in /sys/bus/pci/devices/*/modalias /sys/bus/acpi/devices/LNRO0005*/modalias /sys/bus/virtio/devices/*/modalias
  do
    [ -r "$file" ] && read -r name <"$file" && names="$names $name"
  done
  [ -n "$names" ] && modprobe -a -b -q $names 2>/dev/null
done

# The power button: the driver reports a key, and BusyBox's acpid runs what lies in /etc/acpi.
modprobe -a -q button evdev 2>/dev/null && acpid -l /dev/null

start-stop-daemon -S -b -x /etc/session
while :; do
  sleep 3600 &
  wait $!
done
`;

/** The session on the console, of which the user is part. No `login`: it would drop what was typed ahead. */
export const SESSION_SCRIPT = `#!/bin/sh
exec </dev/console >/dev/console 2>&1
export HOME=/root USER=root LOGNAME=root SHELL=/bin/sh
cat /etc/issue
cd /root
setsid cttyhack sh -l
poweroff
`;

/** What acpid runs when the power button is pressed. */
export const POWER_BUTTON_SCRIPT = `#!/bin/sh
poweroff
`;

export const BANNER = `
Debian's kernel with a BusyBox shell. Type "poweroff" or leave the shell to end.

`;

export const PROFILE = `export PS1='\\u@\\h:\\w\\$ '
`;

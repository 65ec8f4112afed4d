// Package guestfs looks into, and changes, the file systems in volumes of machines that do not run.
//
// What a guest wrote is hostile: a file system may be damaged on purpose, links may point anywhere, numbers may be absurd. So the work is done by a child
// process, this program once more (Main), in process and mount namespaces of its own, in which ext2, ext3 and ext4 file systems are mounted where no path
// leads to, without devices, programs and set-user-ID. Paths are resolved inside the file system only. When the child ends, however it does, the kernel
// takes back what it had: mounts, loop devices and the programs it started. It ends when its standard input does, so it does not outlive the daemon.
//
// A file system is checked and repaired (e2fsck) before it is changed.
package guestfs

package hoststore

import "syscall"

// remote reports whether dir is on a file system whose other users may be on
// other hosts: NFS, SMB, CIFS, AFS, Ceph, 9p and FUSE, by statfs(2)'s numbers.
func remote(dir string) bool {
	var s syscall.Statfs_t
	if syscall.Statfs(dir, &s) != nil {
		return false
	}
	switch uint32(s.Type) {
	case 0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x5346414f, 0x00c36400, 0x01021997, 0x65735546:
		return true
	}
	return false
}

package builtin

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// keptNetstat are the counters of the network stack that tell of trouble, in
// the two files that hold them.
var keptNetstat = map[string][]string{
	"net/netstat": {
		"IpExt_InOctets", "IpExt_OutOctets", "TcpExt_ListenDrops", "TcpExt_ListenOverflows", "TcpExt_SyncookiesFailed",
		"TcpExt_SyncookiesRecv", "TcpExt_SyncookiesSent", "TcpExt_TCPOFOQueue", "TcpExt_TCPRcvQDrop", "TcpExt_TCPSynRetrans", "TcpExt_TCPTimeouts",
	},
	"net/snmp": {
		"Icmp_InErrors", "Icmp_InMsgs", "Icmp_OutMsgs", "Ip_Forwarding", "Tcp_ActiveOpens", "Tcp_CurrEstab", "Tcp_InErrs", "Tcp_InSegs",
		"Tcp_OutRsts", "Tcp_OutSegs", "Tcp_PassiveOpens", "Tcp_RetransSegs", "Udp_InDatagrams", "Udp_InErrors", "Udp_NoPorts",
		"Udp_OutDatagrams", "Udp_RcvbufErrors", "Udp_SndbufErrors",
	},
}

// netstat reads files of pairs of lines: a protocol with the names of its
// counters, and the same protocol with their values.
func (h *host) netstat(e *emitter) error {
	for file, kept := range keptNetstat {
		var names []string
		err := h.lines(file, func(fields []string) error {
			if len(fields) == 0 {
				return nil
			}
			if names == nil || names[0] != fields[0] {
				names = fields
				return nil
			}
			for i := 1; i < min(len(names), len(fields)); i++ {
				name := strings.TrimSuffix(names[0], ":") + "_" + names[i]
				if !slices.Contains(kept, name) {
					continue
				}
				v, err := strconv.ParseFloat(fields[i], 64)
				if err != nil {
					return fmt.Errorf("reading %s: %w", name, err)
				}
				e.emit("node_netstat_"+name, v)
			}
			names = nil
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// mount is a mounted file system.
type mount struct {
	device, point, kind string
	readOnly            bool
}

// filesystems reads the mounts of the first process, which are the host's, or
// else our own. One that cannot be asked has only its device_error set.
func (h *host) filesystems(e *emitter) error {
	mounts, err := h.mounts("1/mounts")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		mounts, err = h.mounts("self/mounts")
	}
	if err != nil {
		return err
	}
	for _, m := range mounts {
		pairs := []string{"device", m.device, "fstype", m.kind, "mountpoint", m.point}
		var s unix.Statfs_t
		if err := unix.Statfs(filepath.Join(h.cfg.RootPath, m.point), &s); err != nil {
			e.emit("node_filesystem_device_error", 1, pairs...)
			continue
		}
		readOnly := 0.0
		if m.readOnly {
			readOnly = 1
		}
		size := float64(s.Bsize)
		e.emit("node_filesystem_device_error", 0, pairs...)
		e.emit("node_filesystem_readonly", readOnly, pairs...)
		e.emit("node_filesystem_size_bytes", float64(s.Blocks)*size, pairs...)
		e.emit("node_filesystem_free_bytes", float64(s.Bfree)*size, pairs...)
		e.emit("node_filesystem_avail_bytes", float64(s.Bavail)*size, pairs...)
		e.emit("node_filesystem_files", float64(s.Files), pairs...)
		e.emit("node_filesystem_files_free", float64(s.Ffree), pairs...)
	}
	return nil
}

// mounts lists what is worth watching, each mount point once: the last one
// mounted there hides the others. Overlays are left out but for the root of a
// container, which has no other.
func (h *host) mounts(file string) ([]mount, error) {
	f, err := os.Open(filepath.Join(h.cfg.ProcPath, file))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	at := map[string]int{}
	var all []mount
	s := bufio.NewScanner(f)
	for s.Scan() {
		fields := strings.Fields(s.Text())
		if len(fields) < 4 {
			return nil, fmt.Errorf("a line of the mounts has %d fields", len(fields))
		}
		m := mount{device: unescape(fields[0]), point: unescape(fields[1]), kind: fields[2]}
		m.readOnly = slices.Contains(strings.Split(fields[3], ","), "ro")
		if ignoredMounts.MatchString(m.point) || ignoredFilesystems.MatchString(m.kind) && (m.kind != "overlay" || m.point != "/") {
			continue
		}
		if i, ok := at[m.point]; ok {
			all[i] = m
			continue
		}
		at[m.point] = len(all)
		all = append(all, m)
	}
	return all, s.Err()
}

// unescape undoes the kernel's \040 for a space, and its like.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

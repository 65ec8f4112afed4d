package replay_test

// how says how far a field is compared.
type how int

const (
	fully how = iota
	// there: both servers say something, or neither.
	there
	anything
)

// ignored says which fields legitimately differ from host to host and from run to run.
func ignored(kind, field string) how {
	switch field {
	case "CreatedOn", "PatchTime": // times
		return there
	case "ChangedStateOn": // the stock server has none until the first change
		return anything
	case "AvailableMemoryInMiB", "NumCPUs", "TotalVolumeBytes", "AvailableBytes", "FreeBytes", "SizeBytes", "UsableBytes": // the host's size and load
		return there
	case "HealthStatus": // of the recordings' host: no health agent was there
		return anything
	case "SerialNumber": // of the machine, if it has one
		return anything
	case "Packet", "Token", "KeyPEM", "ServerCookie", "SocketPathname": // made at random
		return there
	case "Path", "Filename", "DirectoryToCleanup", "Directories", "Bridges": // of the host
		return there
	case "MemoryInMiB": // of the host; a VM's is compared
		if kind == "GetCapacityResponse" || kind == "Update" {
			return there
		}
	}
	return fully
}

// unordered says which lists have no order, or only if it was asked for.
func unordered(where string, sorted bool) bool {
	switch where {
	case "ListVMsResponse.IpAddresses", "ListSubnetsResponse.Subnets":
		return !sorted
	case "GetVmInfosResponse.VmInfos", "Update.AddressPool", "Update.Subnets":
		return true
	}
	return false
}

// learned are the fields by which a server names what it has chosen.
func learned(kind string) []string {
	switch kind {
	case "GetVmAccessTokenResponse":
		return []string{"Token"}
	case "GetRootCookiePathResponse":
		return []string{"Path"}
	}
	return nil
}

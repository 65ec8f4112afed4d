package replay_test

import "maps"

// fullVM is what differs of the VM with nearly every field set, which ours makes without what it refuses.
func fullVM(prefix string) map[string]string {
	return map[string]string{
		prefix + "ExtraKernelOptions": "", prefix + "Volumes[0].Interface": "",
	}
}

func and(maps_ ...map[string]string) map[string]string {
	all := make(map[string]string)
	for _, m := range maps_ {
		maps.Copy(all, m)
	}
	return all
}

// notMade is what a creation answers that ours refuses.
func notMade(text string) map[string]string {
	return map[string]string{"CreateVmResponse.Error": text, "CreateVmResponse.Final": "", "CreateVmResponse.IpAddress": "", "AcknowledgeVmResponse.Error": "no VM with IP address"}
}

const (
	whyFull   = "extra kernel options are not available, so the VM was made without; ours keeps the root volume's interface, the stock server drops it"
	whyGrown  = "ours gives the root volume the free space that was asked for, also beside an image that is uploaded"
	whyLabel  = "ours does not rename file systems, so that there is no label to tell"
	whyHotter = "ours does it while the VM runs"
)

func changesDifferences() map[string]difference {
	return map[string]difference{
		"vm-create-all-fields":   {"extra kernel options are not available: ours says so instead of ignoring them", notMade("extra_kernel_options")},
		"vm-create-init-volumes": {"the image has no file system for the overlay directories: ours says so instead of ignoring them", notMade("file system")},
		"vm-info-all-fields":     {whyFull, fullVM("GetVmInfoResponse.VmInfo.")},
		"vm-infos":               {whyFull, fullVM("GetVmInfosResponse.VmInfos[1].")},
		"vm-infos-filter":        {whyFull, fullVM("GetVmInfosResponse.VmInfos[0].")},
		"vm-get-create-request-all-fields": {whyFull, map[string]string{
			"GetVmCreateRequestResponse.CreateVmRequest.MinimumFreeBytes": "", "GetVmCreateRequestResponse.CreateVmRequest.RoundupPower": "",
			"GetVmCreateRequestResponse.CreateVmRequest.VmInfo.ExtraKernelOptions": "",
		}},
		"vm-storage-configuration": {"ours honours the storage index that was asked for", map[string]string{"GetVmVolumeStorageConfigurationResponse.VolumeStorageIndices[1]": "1"}},
		"vm-info-after-replace":    {whyGrown, map[string]string{"GetVmInfoResponse.VmInfo.Volumes[0].Size": "536870912"}},
		"snapshot-restore-none":    {"there is no such snapshot", map[string]string{"RestoreVmFromSnapshotResponse.Error": "no snapshot"}},
		"snapshot-discard-none":    {"there is no such snapshot", map[string]string{"DiscardVmSnapshotResponse.Error": "no snapshot"}},
		"volume-resize":            {"the volume has grown, and that is what was asked for", map[string]string{"ChangeVmVolumeSizeResponse.Error": ""}},
	}
}

func lifeDifferences() map[string]difference {
	return map[string]difference{
		"errors-not-stopped": {whyHotter, map[string]string{
			"AddVmVolumesResponse.Error": "", "ChangeVmVolumeStorageIndexResponse.Error": "", "DeleteVmVolumeResponse.Error": "",
		}},
		"trace-metadata-vm-destroyed":  {"the simulated guest does not ask for its metadata", nil},
		"import-local-no-architecture": {"it is the host's", map[string]string{"ImportLocalVmResponse.Error": ""}},
		"netboot-machine":              {"none of the files is one that firmware boots", map[string]string{"NetbootMachineResponse.Error": "none is one that a machine's firmware boots"}},
		"netboot-machine-with-subnet":  {"a subnet that is not the host's is not served", map[string]string{"NetbootMachineResponse.Error": "none of this host's"}},
		"import-local-in-pool":         {"a free address of the pool is taken from it", map[string]string{"ImportLocalVmResponse.Error": ""}},
		"vm-info-uncommitted":          {"ours notes when it came", map[string]string{"GetVmInfoResponse.VmInfo.CreatedOn": ""}},
		"vm-info-imported":             {"ours notes when it came", map[string]string{"GetVmInfoResponse.VmInfo.CreatedOn": ""}},
		"power-off-stop-vms":           {"answered, and the server goes on until the host has powered it off", map[string]string{"end": `"" map[]`}},
		"manager":                      {"ours passes on the monitor's greeting, which says its version", nil},
		"serial":                       {"the simulated guest answers lines, where that of the recordings echoed each byte", nil},
		"console":                      {"the screen has another size and name", nil},
	}
}

func moreDifferences() map[string]difference {
	return map[string]difference{
		"migrating-set":                {"who is no owner and has no token is refused", map[string]string{"PrepareVmForMigrationResponse.Error": "no access to resource"}},
		"export-bad-cookie":            {"answered instead of ending the connection", map[string]string{"end": "verification_cookie"}},
		"vm-acknowledge-without-timer": {"answered instead of ending the connection: there is nothing to acknowledge", map[string]string{"end": `"" map[]`}},
		"vm-info-qcow2":                {"ours says the size of the disk, not that of its file", map[string]string{"GetVmInfoResponse.VmInfo.Volumes[0].Size": "1048576"}},
		"volume-resize-qcow2":          {"ours resizes qcow2 too", map[string]string{"ChangeVmVolumeSizeResponse.Error": ""}},
		"vm-create-url-user-data-hang": {"served instead of waiting for ever", map[string]string{
			"CreateVmResponse.Error": "", "CreateVmResponse.Final": "true", "CreateVmResponse.IpAddress": "10.99.1.9",
		}},
	}
}

func jsonDifferences() map[string]difference {
	infos := and(fullVM("GetVmInfosResponse.VmInfos[1]."), map[string]string{"GetVmInfosResponse.VmInfos[0].RootFileSystemLabel": ""})
	return map[string]difference{
		"json-basic":    {whyFull + "; " + whyLabel, infos},
		"json-vm-infos": {whyFull + "; " + whyLabel, infos},
		"json-vm-info":  {whyFull, fullVM("GetVmInfoResponse.VmInfo.")},
		"vm-list-unsorted": {"ours obeys both filters", map[string]string{
			"ListVMsResponse.IpAddresses": "[10.99.1.2]", "ListVMsResponse.IpAddresses#2": "",
		}},
		"json-vm-destroy":       {whyGrown, map[string]string{"GetVmInfoResponse.VmInfo.Volumes[0].Size": "5.36870912e+08"}},
		"json-vm-create-image":  {"raw bytes behind a JSON request are served", map[string]string{"more": "Final:true"}},
		"json-userdata-replace": {"raw bytes behind a JSON request are served", map[string]string{"ReplaceVmUserDataResponse.Error": ""}},
		"json-volume-get":       {whyFull, fullVM("GetVmInfoResponse.VmInfo.")},
	}
}

func pairDifferences() map[string]difference {
	refusals := map[string]string{
		"GetVmVolumeResponse.Error": "token is not valid", "GetVmUserDataResponse.Error": "token is not valid", "DiscardVmAccessTokenResponse.Error": "token is not valid",
	}
	refused := map[string]string{"CopyVmResponse.Error": "token is not valid", "CopyVmResponse.Final": "", "CopyVmResponse.IpAddress": ""}
	return map[string]difference{
		"source of copy-bad-token": {"the token is checked", and(refusals, map[string]string{
			"GetVmVolumeResponse.Error#2": "token is not valid", "StopVmResponse.Error": "token is not valid", "StartVmResponse.Error": "token is not valid",
		})},
		"source of copy-by-non-owner-wrong-token": {"the token is checked", and(refusals, map[string]string{"GetVmInfoResponse.VmInfo.RootFileSystemLabel": ""})},
		"source of migrate-stopped-commit":        {"the VM has gone", map[string]string{"PrepareVmForMigrationResponse.Error": "no VM with IP address"}},
		"source of migrate-running-commit":        {"the VM has gone", map[string]string{"PrepareVmForMigrationResponse.Error": "no VM with IP address"}},
		"copy-destination-info":                   {whyLabel, map[string]string{"GetVmInfoResponse.VmInfo.RootFileSystemLabel": ""}},
		"copy-bad-token":                          {"the token is checked: what the destination may do says nothing of its caller", refused},
		"copy-by-non-owner-wrong-token":           {"the token is checked: what the destination may do says nothing of its caller", refused},
	}
}

func updatesDifferences() map[string]difference {
	watched := and(fullVM("Update.VM 10.99.1.2."), map[string]string{"Update.VM 10.99.1.11.RootFileSystemLabel": ""})
	return map[string]difference{
		"get-updates": {
			whyFull + "; " + whyLabel + "; who may not register leases may not do it in this way either", and(watched, map[string]string{"end": "the connection ends"}),
		},
		"get-updates-hyper-control": {whyFull + "; " + whyLabel, watched},
		"json-get-updates":          {whyFull + "; " + whyLabel, watched},
		"fleet-manager": {
			whyFull + "; " + whyLabel + "; a second change of subnets is answered",
			and(watched, map[string]string{"end": "map[]"}),
		},
	}
}

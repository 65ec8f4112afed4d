package ovf

import "encoding/xml"

// The structs below are the descriptor's elements in the order of the schema. Prefixes are written literally, because encoding/xml would
// repeat the name space on every attribute and several importers do not expect that.

type envelope struct {
	XMLName    xml.Name `xml:"Envelope"`
	NS         string   `xml:"xmlns,attr"`
	OVF        string   `xml:"xmlns:ovf,attr"`
	RASD       string   `xml:"xmlns:rasd,attr"`
	VSSD       string   `xml:"xmlns:vssd,attr"`
	VMW        string   `xml:"xmlns:vmw,attr"`
	XSI        string   `xml:"xmlns:xsi,attr"`
	References references
	Disks      diskSection
	Networks   networkSection
	System     virtualSystem
}

type references struct {
	XMLName xml.Name  `xml:"References"`
	Files   []fileRef `xml:"File"`
}

type fileRef struct {
	Href string `xml:"ovf:href,attr"`
	ID   string `xml:"ovf:id,attr"`
	Size int64  `xml:"ovf:size,attr"`
}

type diskSection struct {
	XMLName xml.Name  `xml:"DiskSection"`
	Info    string    `xml:"Info"`
	Disks   []diskRef `xml:"Disk"`
}

type diskRef struct {
	Capacity  int64  `xml:"ovf:capacity,attr"`
	Units     string `xml:"ovf:capacityAllocationUnits,attr"`
	ID        string `xml:"ovf:diskId,attr"`
	FileRef   string `xml:"ovf:fileRef,attr"`
	Format    string `xml:"ovf:format,attr"`
	Populated *int64 `xml:"ovf:populatedSize,attr"`
}

type networkSection struct {
	XMLName  xml.Name  `xml:"NetworkSection"`
	Info     string    `xml:"Info"`
	Networks []network `xml:"Network"`
}

type network struct {
	Name        string `xml:"ovf:name,attr"`
	Description string `xml:"Description"`
}

type virtualSystem struct {
	XMLName  xml.Name `xml:"VirtualSystem"`
	ID       string   `xml:"ovf:id,attr"`
	Info     string   `xml:"Info"`
	Name     string   `xml:"Name"`
	OS       osSection
	Hardware hardwareSection
}

type osSection struct {
	XMLName     xml.Name `xml:"OperatingSystemSection"`
	ID          int      `xml:"ovf:id,attr"`
	Type        string   `xml:"vmw:osType,attr,omitempty"`
	Info        string   `xml:"Info"`
	Description string   `xml:"Description,omitempty"`
}

type hardwareSection struct {
	XMLName xml.Name `xml:"VirtualHardwareSection"`
	Info    string   `xml:"Info"`
	System  system
	Items   []item   `xml:"Item"`
	Config  []config `xml:"vmw:Config"`
}

type system struct {
	XMLName     xml.Name `xml:"System"`
	ElementName string   `xml:"vssd:ElementName"`
	InstanceID  int      `xml:"vssd:InstanceID"`
	Identifier  string   `xml:"vssd:VirtualSystemIdentifier"`
	Type        string   `xml:"vssd:VirtualSystemType"`
}

// item is a CIM_ResourceAllocationSettingData; its elements must come in alphabetical order.
type item struct {
	Address         string `xml:"rasd:Address,omitempty"`
	AddressOnParent *int   `xml:"rasd:AddressOnParent"`
	AllocationUnits string `xml:"rasd:AllocationUnits,omitempty"`
	Automatic       *bool  `xml:"rasd:AutomaticAllocation"`
	Connection      string `xml:"rasd:Connection,omitempty"`
	Description     string `xml:"rasd:Description,omitempty"`
	ElementName     string `xml:"rasd:ElementName"`
	HostResource    string `xml:"rasd:HostResource,omitempty"`
	InstanceID      int    `xml:"rasd:InstanceID"`
	Parent          *int   `xml:"rasd:Parent"`
	SubType         string `xml:"rasd:ResourceSubType,omitempty"`
	Type            int    `xml:"rasd:ResourceType"`
	Quantity        uint64 `xml:"rasd:VirtualQuantity,omitempty"`
}

type config struct {
	Required bool   `xml:"ovf:required,attr"`
	Key      string `xml:"vmw:key,attr"`
	Value    string `xml:"vmw:value,attr"`
}

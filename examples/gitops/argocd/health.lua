-- Health of an AlignmentCycle or a PreferenceDataset for Argo CD, from kstatus conditions and observedGeneration.
-- A loop that iterates, waits for a person or refused a candidate is healthy: none of it should hold up a sync.
local condition = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, entry in ipairs(obj.status.conditions) do
    condition[entry.type] = entry
  end
end

local function holds(name, status)
  return condition[name] ~= nil and condition[name].status == status
end

local function health(status, entry)
  return { status = status, message = entry.reason .. ": " .. entry.message }
end

if condition.Ready == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "generation " .. obj.metadata.generation .. " is not observed yet" }
end
if holds("Stalled", "True") then
  return health("Degraded", condition.Stalled)
end
if holds("Suspended", "True") then
  return health("Suspended", condition.Suspended)
end
if holds("Ready", "False") then
  local reason = condition.Ready.reason
  local waits = reason == "DatasetNotReady" or reason == "Ingesting"
  return health(waits and "Progressing" or "Degraded", condition.Ready)
end
if holds("TargetsSynced", "False") then
  local writing = condition.TargetsSynced.reason == "Updating"
  return health(writing and "Progressing" or "Degraded", condition.TargetsSynced)
end
return health("Healthy", condition.Ready)
